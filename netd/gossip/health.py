"""How far this node should doubt itself: Lifeguard's local health multiplier."""


class Health:
    """A score from 0 (well) to below `limit`. It stretches what this node grants others."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.score = 0

    @property
    def factor(self) -> int:
        return self.score + 1

    def worse(self, by: int = 1) -> None:
        self.score = min(self._limit - 1, self.score + by)

    def better(self) -> None:
        self.score = max(0, self.score - 1)
