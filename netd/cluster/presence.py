"""Whether a host is there, also when nothing listens on it."""

import asyncio
from typing import Final

from netd.cluster.addresses import Place

ANSWER_S: Final = 1.0


async def host_answers(place: Place) -> bool:
    """Whether its kernel answers a connection to the place, be it by refusing it.

    A host that is off, or cut off, says nothing; nor does one whose firewall drops packets.
    """
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(*place)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
