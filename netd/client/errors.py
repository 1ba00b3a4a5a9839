"""What can go wrong when calling netd."""


class ClientError(Exception):
    """Base of the client's errors. Its text says what was wrong and what to do."""


class Unreachable(ClientError):
    """No daemon answered on the socket."""


class ApiError(ClientError):
    """The daemon refused a call.

    `code` is stable (`invalid`, `not-found`, `conflict`, …), `status` is HTTP's, `title` says
    it in general and `detail` in particular; `field` is the JSON path of the input at fault.
    """

    def __init__(
        self, *, code: str, status: int, title: str, detail: str, field: str | None = None
    ) -> None:
        super().__init__(detail or title)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field
