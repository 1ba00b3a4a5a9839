"""The difference between how the kernel should be and how it is, as ordered operations."""

from collections.abc import Container

from netd.plan.objects import Key, Object, State
from netd.plan.operations import Operation

NOTHING_TAKEN: frozenset[Key] = frozenset()


def diff(
    desired: State, observed: State, *, owners: Container[str] | None = None
) -> list[Operation]:
    """What turns `observed` into `desired`: deletions first, then creations by rank.

    `observed` holds objects with netd's tag, and untagged ones only where `desired` has the
    same key. Only objects whose owner is in `owners` are looked at, all when it is None.
    A link of the wrong kind is deleted and made anew, and so is all that lives on it.
    """

    def concerned(obj: Object) -> bool:
        return owners is None or obj.owner in owners

    adds: list[Operation] = []
    changes: list[Operation] = []
    deletes: list[Operation] = []
    gone: set[Key] = set()  # links that are deleted: what lives on them goes too

    for key, has in observed.items():
        want = desired.get(key)
        if want is None:
            if concerned(has):
                deletes.append(Operation(verb="delete", object=has, reason="not wanted"))
                gone.add(key)
        elif type(want) is not type(has) and concerned(want):
            reason = f"is a {type(has).__name__.lower()}"
            deletes.append(Operation(verb="delete", object=has, reason=reason))
            gone.add(key)

    for key, want in desired.items():
        if not concerned(want):
            continue
        now = observed.get(key)
        if now is None or key in gone or _dies_with(want, gone):
            adds.append(Operation(verb="add", object=want, reason="missing"))
        elif reason := difference(want, now):
            changes.append(Operation(verb="change", object=want, reason=reason, was=now))

    deletes = [op for op in deletes if not _dies_with(op.object, gone)]
    deletes.sort(key=lambda op: (-op.object.rank, op.object.key))
    creations = adds + changes
    creations.sort(key=lambda op: (op.object.rank, op.object.key))
    return deletes + creations


def difference(want: Object, now: Object) -> str:
    """Say in which managed attributes `now` is not as wanted; "" when it is.

    An attribute that is None in `want` is left to the kernel. A ruleset's script is
    represented by its digest.
    """
    differing = []
    for name in want.__struct_fields__:
        wanted = getattr(want, name)
        if wanted is None or name == "script":
            continue
        actual = getattr(now, name)
        if wanted != actual:
            differing.append(f"{name} is {actual}, not {wanted}")
    return "; ".join(differing)


def creation(objects: list[Object], reason: str) -> list[Operation]:
    """The operations that make `objects` where none of them exists yet."""
    ordered = sorted(objects, key=lambda obj: obj.rank)
    return [Operation(verb="add", object=obj, reason=reason) for obj in ordered]


def removal(objects: list[Object], reason: str) -> list[Operation]:
    """The operations that remove `objects`; what lives on a removed link goes with it."""
    links = {obj.key for obj in objects}
    ordered = sorted(objects, key=lambda obj: -obj.rank)
    return [
        Operation(verb="delete", object=obj, reason=reason)
        for obj in ordered
        if not _dies_with(obj, links)
    ]


def _dies_with(obj: Object, links: set[Key]) -> bool:
    link = obj.link_key
    return link is not None and link in links
