"""Who is told at once of what becomes of this host's endpoints."""

from typing import Protocol

from netd.model.endpoint import Endpoint


class EndpointFollower(Protocol):
    """Called on the event loop, between two awaits of whoever has made it so; must not raise."""

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """An endpoint is new, or otherwise."""
        ...

    def endpoint_ended(self, endpoint_id: str) -> None:
        """An endpoint is no more, or its container has ended. May be told twice."""
        ...
