"""What Podman is told when something does not work."""


class Failure(Exception):
    """Its text is shown to the user."""
