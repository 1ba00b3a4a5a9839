"""Entering a cluster by a token: its key is fetched from the token's issuer."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from netd.cluster import frames, tls
from netd.cluster.addresses import Place, resolve
from netd.cluster.client import CallFailed, StreamClient
from netd.cluster.secret import KEY_BYTES, ClusterSecret
from netd.cluster.tokens import JoinToken
from netd.gossip.values import Address
from netd.model.errors import Invalid, Unavailable

REDEEM_S: Final = 10.0


async def redeem(
    token: JoinToken, also: Sequence[Place], bound: str, counters: Counter[str]
) -> ClusterSecret:
    """The key of the token's cluster, from its issuer at the token's addresses or at `also`.

    Who answers has to prove that it is of the token's cluster before it is told the secret.
    Raises `Invalid` when the token is refused, `Unavailable` when its issuer cannot be reached.
    """
    client = StreamClient(tls.joiner_context(), token.authority_public_key, counters)
    failures: list[str] = []
    refusals: list[str] = []
    for address in await _addresses(token, also, bound):
        try:
            answer = await client.call(address, None, token.secret, REDEEM_S, frames.Request.REDEEM)
        except CallFailed as error:
            (refusals if error.refused else failures).append(f"{Place(*address)}: {error}")
            continue
        return _checked(answer, token)
    if refusals:
        raise Invalid(
            f"the token is refused: {'; '.join(refusals)}. `netctl member token` on a member "
            "prints a new one",
            field="token",
        )
    raise Unavailable(f"the token's issuer cannot be reached: {'; '.join(failures)}")


async def _addresses(token: JoinToken, also: Sequence[Place], bound: str) -> list[Address]:
    """Where to try: first where the token says that its issuer is."""
    found = dict.fromkeys(token.addresses)
    for places in await asyncio.gather(
        *(resolve(place, bound) for place in also), return_exceptions=True
    ):
        if not isinstance(places, BaseException):  # a name that is not found is told by `join`
            found.update(dict.fromkeys(places))
    return list(found)


def _checked(answer: bytes, token: JoinToken) -> ClusterSecret:
    if len(answer) == KEY_BYTES:
        secret = ClusterSecret(answer)
        if (secret.cluster_id, secret.authority_public_key) == (
            token.cluster_id,
            token.authority_public_key,
        ):
            return secret
    raise Unavailable("the token's issuer gave a key that is not of the token's cluster")
