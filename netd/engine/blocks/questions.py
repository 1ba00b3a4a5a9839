"""What hosts tell and ask each other about the addresses they own, beside asking for some."""

from typing import Final

import msgspec

from netd.engine.interfaces import Cluster
from netd.model.blocks import Ask, Epoch, Fence, Given, Refused
from netd.model.errors import Unavailable
from netd.model.overlay import MemberId

TOPIC: Final = "blocks"  # of questions
TABLE: Final = "blocks"  # of records; key: the network's id
ANSWER_S: Final = 3.0  # for a commit of the other host's, and two ways


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a host owns: its record in the table `blocks`. `more` if that is not all of it."""

    prefixes: tuple[str, ...]
    epoch: Epoch = Epoch()
    more: bool = False


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """What of these prefixes do you own, in which epoch, and which one do you prepare?"""

    network_id: str
    prefixes: tuple[str, ...] = ()


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag="prepare"):
    """Stop moving blocks until an epoch is in force, and tell all that you own."""

    network_id: str
    fence: Fence


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The epoch that was prepared is in force, or it never will be."""

    network_id: str
    epoch: Epoch
    in_force: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """The answer to the others. `fences` are the epochs that are being prepared, `known` the
    members that have ever got addresses of this host.
    """

    epoch: Epoch
    prefixes: tuple[str, ...] = ()
    fences: tuple[Fence, ...] = ()
    known: tuple[MemberId, ...] = ()


Question = Ask | Look | Prepare | Ended
Answer = Given | Refused | Seen

_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
decode_question = msgspec.json.Decoder(Question).decode
encode = msgspec.json.encode


async def put(cluster: Cluster, member: str, question: Question) -> Answer:
    """Ask a member. Raises `NetdError` when it does not answer."""
    answer = await cluster.ask(member, TOPIC, encode(question), ANSWER_S)
    try:
        return _answers.decode(answer)
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"{member} answers what cannot be understood: {error}") from None


async def look(cluster: Cluster, member: str, question: Look | Prepare | Ended) -> Seen:
    """Ask a member for anything but addresses. Raises `NetdError`."""
    answer = await put(cluster, member, question)
    if not isinstance(answer, Seen):
        raise Unavailable(f"{member} does not know the network")
    return answer
