"""What a front end has to remember beside networks and endpoints: short texts by key."""

from collections.abc import Mapping

from netd.engine.interfaces import Change, Store

_PREFIX = "note:"


class Notes:
    """As durable as networks are. Keys begin with the name of whose they are, and a slash."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._texts: dict[str, str] = {}

    def restore(self, facts: Mapping[str, str]) -> None:
        """Take over what the store holds."""
        self._texts = {
            key.removeprefix(_PREFIX): text
            for key, text in facts.items()
            if key.startswith(_PREFIX)
        }

    def all(self, prefix: str) -> dict[str, str]:
        return {key: text for key, text in self._texts.items() if key.startswith(prefix)}

    async def put(self, key: str, text: str) -> None:
        """Raises `Unavailable`, with nothing changed."""
        await self._store.commit(Change(put_facts={_PREFIX + key: text}, sync=True))
        self._texts[key] = text

    async def delete(self, key: str) -> None:
        """Nothing to do when there is none. Raises `Unavailable`, with nothing changed."""
        if key in self._texts:
            await self._store.commit(Change(delete_facts=(_PREFIX + key,), sync=True))
            del self._texts[key]
