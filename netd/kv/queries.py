"""What is answered to those who only look."""

from netd.kv import keys, sessions
from netd.kv.commands import (
    Find,
    KeyRead,
    KeysListed,
    List,
    ListSessions,
    Query,
    Read,
    SessionsListed,
)
from netd.kv.space import Space


def answer(space: Space, query: Query) -> KeyRead | KeysListed | SessionsListed:
    match query:
        case Read():
            return KeyRead(keys.read(space, query.key))
        case List(names=True):
            return KeysListed(keys.list_keys(space, query.prefix, query.separator))
        case List():
            return KeysListed(keys.list_entries(space, query.prefix))
        case Find():
            return SessionsListed(sessions.read(space, query.session))
        case ListSessions():
            return SessionsListed(sessions.list_all(space, query.node))
