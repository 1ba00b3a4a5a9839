"""How the simulated kernel says no."""

import os


class Refused(Exception):
    """`errno` as in errno(3)."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number
