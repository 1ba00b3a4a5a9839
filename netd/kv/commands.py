"""What can be asked of whoever holds the keys, as it goes from host to host."""

from typing import Final

import msgspec

from netd.model.errors import NetdError, Unavailable
from netd.model.kv import (
    KeyListing,
    KeyReading,
    Operation,
    Outcome,
    Session,
    SessionListing,
    SessionSpec,
)


class Read(msgspec.Struct, frozen=True, tag="read"):
    key: str


class List(msgspec.Struct, frozen=True, tag="list"):
    """`names`: only the keys, up to the separator if there is one."""

    prefix: str
    names: bool = False
    separator: str = ""


class Transact(msgspec.Struct, frozen=True, tag="transact"):
    operations: tuple[Operation, ...]


class Create(msgspec.Struct, frozen=True, tag="create"):
    """`spec.node` is set."""

    spec: SessionSpec


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    session: str


class Destroy(msgspec.Struct, frozen=True, tag="destroy"):
    session: str


class Find(msgspec.Struct, frozen=True, tag="find"):
    session: str


class ListSessions(msgspec.Struct, frozen=True, tag="sessions"):
    """`node` "": of all."""

    node: str = ""


Query = Read | List | Find | ListSessions
Order = Transact | Create | Renew | Destroy
Command = Query | Order

QUERIES: Final = (Read, List, Find, ListSessions)


class KeyRead(msgspec.Struct, frozen=True, tag="key"):
    value: KeyReading


class KeysListed(msgspec.Struct, frozen=True, tag="keys"):
    value: KeyListing


class Transacted(msgspec.Struct, frozen=True, tag="outcome"):
    value: Outcome


class OneSession(msgspec.Struct, frozen=True, tag="session"):
    value: Session


class SessionsListed(msgspec.Struct, frozen=True, tag="sessions"):
    value: SessionListing


class Nothing(msgspec.Struct, frozen=True, tag="nothing"):
    """It is done."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """An error, by its code."""

    code: str
    detail: str
    field: str | None = None

    @classmethod
    def of(cls, error: NetdError) -> "Failed":
        return cls(error.code, error.detail, error.field)

    def error(self) -> NetdError:
        kind = _BY_CODE.get(self.code, Unavailable)
        return kind(self.detail, field=self.field)


Result = KeyRead | KeysListed | Transacted | OneSession | SessionsListed | Nothing
Settled = Result | Failed

_BY_CODE: Final = {kind.code: kind for kind in NetdError.__subclasses__()}
