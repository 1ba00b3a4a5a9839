"""A host's identity and its database belong together.

What a member owns of networks is in its database. Without that it must not go on as the same
member: it would take again for its own what it has given to others since. So a new database next
to an old identity makes the host a new member.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from netd.cluster import identity
from netd.engine.interfaces import Change, Store
from netd.engine.startup import NODE_ID

FACT: Final = "cluster-identity"  # in the store: the member's id

log = logging.getLogger(__name__)


async def check(store: Store, directory: Path) -> None:
    """Put an identity aside that is of a lost database; before the identity is opened.

    Raises `Unavailable`.
    """
    facts = (await store.load()).facts
    if FACT in facts or NODE_ID in facts:  # the latter alone: by a netd before this rule
        return
    aside = await asyncio.to_thread(identity.put_aside, directory)
    if aside is not None:
        log.warning(
            "the database is new, but the host had an identity: it becomes a new member; the old "
            "identity is kept in %s. What the old member owned of networks can be taken over: "
            "netctl network reclaim",
            aside,
        )


async def remember(store: Store, member: str) -> None:
    """Have the database know whose it is. Raises `Unavailable`."""
    if (await store.load()).facts.get(FACT) != member:
        await store.commit(Change(put_facts={FACT: member}))
