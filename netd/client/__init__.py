"""The API's client, standard library only."""

from netd.client.client import DEFAULT_SOCKET, Client, Lines
from netd.client.errors import ApiError, ClientError, Unreachable

__all__ = ["DEFAULT_SOCKET", "ApiError", "Client", "ClientError", "Lines", "Unreachable"]
