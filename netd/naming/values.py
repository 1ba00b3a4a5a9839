"""What a look-up gives: records, and the answer they are part of."""

from typing import Final, Literal

import msgspec

Rcode = Literal["NOERROR", "NXDOMAIN", "REFUSED", "FORWARD"]

Topics = tuple[str, ...]
EVERYTHING: Final = "*"  # the topic of every answer


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record of class IN.

    `name` is its full name, in lower case and without the last dot. `data` is in the form of
    zone files (RFC 1035, 5.1), `rdata` the same in bytes, with names uncompressed. `network` is
    the one whose containers see it, "" for what everybody sees. `weight` is the share of the
    load that an address of a service takes.
    """

    name: str
    type: str
    ttl_s: int
    data: str
    rdata: bytes
    network: str = ""
    weight: int = 1


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to one question.

    `rcode` is as in RFC 1035, REFUSED for what whoever asks may not have answered by others;
    FORWARD says that others know. `records` answer the question: in a message, their owner is
    the question's name, which may be a short form of theirs; they are all of one type unless
    nothing else is said. `topics` are what the answer depends on beside `EVERYTHING`: it holds
    until `Directory.apply` names one of them.
    """

    rcode: Rcode
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    aa: bool = True
    topics: Topics = ()


class Scope:
    """What somebody who asks may see. Equal ones are one object: compare by identity.

    `networks` is None for who sees all, as the host does. Single labels are looked for in `near`
    first, the networks that the question comes by.
    """

    __slots__ = ("__weakref__", "near", "networks")

    def __init__(self, networks: frozenset[str] | None, near: frozenset[str] = frozenset()) -> None:
        self.networks = networks
        self.near = near

    def sees(self, network: str) -> bool:
        """Whether what belongs to `network` can be seen; "" belongs to everybody."""
        return not network or self.networks is None or network in self.networks
