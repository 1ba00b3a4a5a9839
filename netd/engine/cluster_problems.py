"""What is wrong in the cluster: conditions of members, and one of the host for each kind."""

from collections.abc import Callable, Mapping
from typing import Final

from netd.engine.interfaces import ProblemChange
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.plan.objects import HOST_OWNER

_CODES: Final = "cluster-"
_DETAILS_SHOWN: Final = 5
_REMEDIES: Final = {
    "duplicate-name": "give one of them another node.name and restart its netd",
    "cloned-identity": (
        "on the copy: systemctl stop netd; rm /var/lib/netd/identity.key; systemctl start netd"
    ),
    "protocol-version": "upgrade netd on the older hosts, then there: systemctl restart netd",
    "members-exceeded": "take hosts out, on each: netctl member leave",
    "records-exceeded": (
        "see what that host tells (GET /v1/records?owner=HOST) and remove there what is too much; "
        "where other hosts say so, then there: systemctl restart netd"
    ),
}


class Problems:
    """`contested` has names that several nodes claim, with their ids; `address_of` tells where a
    node is, in words.
    """

    def __init__(
        self,
        parts: Parts,
        contested: Callable[[], Mapping[str, tuple[str, ...]]],
        address_of: Callable[[str], str],
    ) -> None:
        self._parts = parts
        self._contested = contested
        self._address_of = address_of
        self._known: dict[tuple[str, str], Condition] = {}  # by code and member

    def of_members(self) -> dict[str, list[Condition]]:
        """What is wrong with members, by id."""
        wrong: dict[str, list[Condition]] = {}
        for (_, about), condition in self._known.items():
            wrong.setdefault(about, []).append(condition)
        return wrong

    def changed(self, problem: ProblemChange, name: str) -> None:
        """`name` is what the member that it is about is called."""
        key = (problem.code, problem.about)
        known = self._known.pop(key, None)
        if problem.detail:
            self._known[key] = self._condition(
                problem.code, problem.detail, known.since if known else self._parts.now()
            )
            if known is None or known.detail != problem.detail:
                self._parts.events.emit(
                    "cluster.problem",
                    about=problem.about,
                    name=name,
                    detail=f"{problem.code}: {problem.detail}",
                )
        elif known is not None:
            self._parts.events.emit(
                "cluster.solved", about=problem.about, name=name, detail=problem.code
            )
        self.show()

    def show(self) -> None:
        """Have the host's conditions as they should be: one for each kind of problem."""
        details: dict[str, list[str]] = {}
        for (code, _), condition in sorted(self._known.items()):
            details.setdefault(code, []).append(condition.detail)
        zone = self._parts.settings.zone
        contested = sorted(self._contested().items())
        if contested:  # says more than what the protocol has found
            details["duplicate-name"] = []
        for name, ids in contested:
            who = " and ".join(f"{node_id} at {self._address_of(node_id)}" for node_id in ids)
            details["duplicate-name"].append(
                f"{who} are both called {name}; {name}.node.{zone} leads to {ids[0]}"
            )
        conditions = []
        for code, found in details.items():
            if len(found) > _DETAILS_SHOWN:
                found[_DETAILS_SHOWN:] = [f"and {len(found) - _DETAILS_SHOWN} more"]
            conditions.append(self._condition(code, "; ".join(found), self._parts.now()))
        self._parts.conditions.replace(HOST_OWNER, _CODES, conditions)

    def _condition(self, code: str, detail: str, since: str) -> Condition:
        return Condition(
            code=_CODES + code,
            severity="error",
            detail=detail,
            remedy=_REMEDIES.get(code, ""),
            since=since,
        )
