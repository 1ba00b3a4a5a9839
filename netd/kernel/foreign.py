"""Forward chains of other programs that drop what none of their rules accepts.

A packet is forwarded only if every table lets it pass, so netd's own `accept` does not help
where Docker, ufw or firewalld drop the rest. Their chains are never changed: what they do is
found and said, and the place Docker keeps for others' rules is used if so configured.
"""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from netd.model.errors import KernelFailure
from netd.plan.facts import ForeignChain
from netd.plan.firewall import TABLE

RunJson = Callable[[str], list[dict[str, Any]]]

_HOOK: Final = "DOCKER-USER"
_LINKS: Final = "nd-"  # what the names of netd's bridges begin with
_DEPTH_MAX: Final = 16  # jumps, as in the kernel (NFT_JUMP_STACK_SIZE)
_TIMEOUT_S: Final = 10
_LEGACY: Final = {"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}
_SAVED: Final = {"ip filter": "iptables-nft-save", "ip6 filter": "ip6tables-nft-save"}
_LISTABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")  # what nft takes unquoted
_ENDS: Final = {"drop": "last rule drops", "reject": "last rule rejects"}

# `ct status dnat` (IPS_DST_NAT of nf_conntrack_common.h): of what is new and goes to netd's links,
# that is what published ports let in. So a rule for it is taken for one for all that goes there.
_TRANSLATED: Final = {"op": "in", "left": {"ct": {"key": "status"}}, "right": 1 << 5}

# Which packets a rule is for: all, those that come from netd's links or go to them, or some
# that are not told apart here.
_ALL, _IN, _OUT, _SOME = "all", "in", "out", "some"


class _Rule(NamedTuple):
    scope: str
    verdict: str = ""  # accept, drop, reject, jump, goto, return, or "" for none
    target: str = ""


class _Chain(NamedTuple):
    """A base chain. `rules_of` leads from the name of a chain of its table to the rules."""

    table: str
    name: str
    policy: str
    siblings: Collection[str]
    rules_of: Callable[[str], Iterable[_Rule]]


def observe_foreign(run_json: RunJson) -> tuple[ForeignChain, ...]:
    """The chains at the forward hook that drop by policy or by a rule that is for all.

    `run_json` runs an nft command and returns the objects it lists. Left out are chains with
    rules that accept whatever comes from and goes to netd's bridges. Rules of the legacy
    iptables are seen where its program is installed. Raises `KernelFailure` when that fails.
    """
    chains = [*_nft_chains(run_json), *_legacy_chains()]
    return tuple(found for chain in chains if (found := _judge(chain)))


class DockerUserHook:
    """Rules in DOCKER-USER by which Docker's chains let netd's traffic pass.

    They never change. What goes to netd's networks is the business of netd's own table. What
    comes from them is accepted, except to Docker's bridges, by the names that Docker gives
    them: that is left to the rules by which Docker keeps unpublished ports to itself. Only for
    use where the configuration asks for it.
    """

    _PROGRAMS: Final = ("iptables", "ip6tables")
    _MARK: Final = " -m comment --comment netd -j "
    _RULES: Final = (
        f"-A {_HOOK} -i {_LINKS}+ -o docker+{_MARK}RETURN",
        f"-A {_HOOK} -i {_LINKS}+ -o br-+{_MARK}RETURN",
        f"-A {_HOOK} -i {_LINKS}+{_MARK}ACCEPT",
        f"-A {_HOOK} -o {_LINKS}+{_MARK}ACCEPT",
    )

    def install(self) -> int:
        """Put the rules first in each DOCKER-USER that has others of netd's, or none.

        Returns how many were put. Raises `KernelFailure` when iptables refuses.
        """
        return sum(
            self._replace(program, present, self._RULES)
            for program, present in self._present()
            if present != list(self._RULES)
        )

    def remove(self) -> int:
        """Take all of netd's rules out again; return how many. Raises `KernelFailure`."""
        found = [(program, present) for program, present in self._present() if present]
        for program, present in found:
            self._replace(program, present, ())
        return sum(len(present) for _, present in found)

    def _present(self) -> Iterator[tuple[str, list[str]]]:
        """Programs that know the chain, and netd's rules there as they print them, in order."""
        for program in self._PROGRAMS:
            with contextlib.suppress(KernelFailure, FileNotFoundError):
                lines = _run(program, "-w", "-S", _HOOK).splitlines()
                yield program, [line for line in lines if self._MARK in line]

    def _replace(self, program: str, old: Sequence[str], new: Sequence[str]) -> int:
        """At one stroke: never is a packet judged by some of the rules only."""
        lines = [line.replace("-A ", "-D ", 1) for line in old]
        lines += [
            line.replace(f"-A {_HOOK}", f"-I {_HOOK} {place}", 1)
            for place, line in enumerate(new, start=1)
        ]
        script = "\n".join(("*filter", *lines, "COMMIT", ""))
        _run(f"{program}-restore", "-w", "--noflush", script=script)
        return len(new)


def _judge(chain: _Chain) -> ForeignChain | None:
    verdicts = []
    for scope in (_IN, _OUT):
        fate = _fate(chain, chain.name, scope, 0)
        verdicts.append(_ENDS.get(fate, "") if fate else _by_policy(chain.policy))
    verdict = next(filter(None, verdicts), "")
    if not verdict:
        return None
    return ForeignChain(
        table=chain.table,
        chain=chain.name,
        verdict=verdict,
        program=_program(chain),
        hook=_HOOK if _HOOK in chain.siblings else "",
    )


def _by_policy(policy: str) -> str:
    return "policy drop" if policy == "drop" else ""


def _fate(chain: _Chain, name: str, scope: str, depth: int) -> str:
    """What becomes of a packet that only the rules of that scope and those for all are for.

    "" when it comes to the end of the chain.
    """
    if depth == _DEPTH_MAX:
        return ""
    for rule in chain.rules_of(name):
        if rule.scope not in (_ALL, scope):
            continue
        if rule.verdict in ("accept", "drop", "reject"):
            return rule.verdict
        if rule.verdict == "return":
            return ""
        if rule.verdict in ("jump", "goto"):
            fate = _fate(chain, rule.target, scope, depth + 1)
            if fate or rule.verdict == "goto":
                return fate
    return ""


def _program(chain: _Chain) -> str:
    """Whose chain it is, by names that the programs give."""
    names = " ".join(chain.siblings)
    if chain.table.partition(" ")[2].startswith("docker-") or "DOCKER" in names:
        return "Docker"
    if "ufw-" in names or "ufw6-" in names:
        return "ufw"
    if chain.table.endswith(" firewalld") or "FORWARD_IN_ZONES" in names:
        return "firewalld"
    return "unknown"


def _nft_chains(run_json: RunJson) -> Iterator[_Chain]:
    """All base chains at the forward hook, netd's own excepted."""
    listed = [item["chain"] for item in run_json("list chains") if "chain" in item]
    siblings: dict[str, list[str]] = {}
    for chain in listed:
        siblings.setdefault(f"{chain['family']} {chain['table']}", []).append(chain["name"])
    for chain in listed:
        table = f"{chain['family']} {chain['table']}"
        if chain.get("hook") != "forward" or chain["family"] == "netdev" or table == TABLE:
            continue

        def rules_of(name: str, table: str = table) -> Iterable[_Rule]:
            return _nft_rules(run_json, table, name)

        yield _Chain(table, chain["name"], chain.get("policy", ""), siblings[table], rules_of)


def _nft_rules(run_json: RunJson, table: str, chain: str) -> list[_Rule]:
    """The chain's rules; none for a name that nft cannot say, as one that is a word of its
    language: such chains are made by netlink, and only their policy is seen."""
    if not _LISTABLE.match(table.partition(" ")[2]) or not _LISTABLE.match(chain):
        return []
    try:
        listing = run_json(f"list chain {table} {chain}")
    except KernelFailure:
        return []
    rules = [item["rule"].get("expr", ()) for item in listing if "rule" in item]
    if any({"xt": None} in rule for rule in rules) and table in _SAVED:
        # nft 1.0.2 does not say what an expression of iptables is.
        with contextlib.suppress(FileNotFoundError):
            return _saved(_SAVED[table])[1].get(chain, [])
    return [_nft_rule(rule) for rule in rules]


def _nft_rule(expressions: Iterable[dict[str, Any]]) -> _Rule:
    scopes: list[str] = []
    for expression in expressions:
        ((kind, body),) = expression.items()
        match kind:
            case "counter" | "log":
                continue
            case "accept" | "drop" | "reject" | "return":
                return _Rule(_scope(scopes), kind)
            case "jump" | "goto":
                return _Rule(_scope(scopes), kind, body["target"])
            case "match" if body == _TRANSLATED:
                scopes.append(_OUT)
            case "match" if body["op"] == "==" and "meta" in body["left"]:
                scopes.append(_link_scope(body["left"]["meta"].get("key"), body["right"]))
            case "xt" if body == {"type": "match", "name": "comment"}:
                continue
            case "xt" if body == {"type": "target", "name": "REJECT"}:
                return _Rule(_scope(scopes), "reject")
            case _:
                scopes.append(_SOME)
    return _Rule(_scope(scopes))


def _link_scope(key: str, value: object) -> str:
    if value != f"{_LINKS}*":
        return _SOME
    return {"iifname": _IN, "oifname": _OUT}.get(key, _SOME)


def _scope(conditions: list[str]) -> str:
    if not conditions:
        return _ALL
    return conditions[0] if len(conditions) == 1 else _SOME


def _legacy_chains() -> Iterator[_Chain]:
    """FORWARD of the legacy iptables. To list a table would make it, so /proc is asked first."""
    for family, program in _LEGACY.items():
        names = Path(f"/proc/thread-self/net/{family}_tables_names")
        if not names.exists() or "filter" not in names.read_text().split():
            continue
        with contextlib.suppress(FileNotFoundError):
            policy, rules = _saved(program)

            def rules_of(name: str, rules: dict[str, list[_Rule]] = rules) -> Iterable[_Rule]:
                return rules.get(name, ())

            yield _Chain(f"{family} filter (legacy)", "FORWARD", policy, rules, rules_of)


def _saved(program: str) -> tuple[str, dict[str, list[_Rule]]]:
    """FORWARD's policy, and the rules of all chains of the table `filter`, as iptables saves them.

    Raises `KernelFailure`, or FileNotFoundError where there is no such program.
    """
    rules: dict[str, list[_Rule]] = {}
    policy = ""
    for line in _run(program, "-t", "filter").splitlines():
        if line.startswith(":"):
            name, chain_policy = line[1:].split()[:2]
            rules[name] = []
            policy = chain_policy.lower() if name == "FORWARD" else policy
        elif line.startswith("-A "):
            _, name, *words = shlex.split(line)
            rules[name].append(_saved_rule(words))
    return policy, rules


def _saved_rule(words: list[str]) -> _Rule:
    """A rule as iptables-save writes it."""
    scopes: list[str] = []
    verdict = target = ""
    remaining = iter(words)
    for word in remaining:
        match word:
            case "-j" | "-g":
                target = next(remaining)
                known = target.lower() in ("accept", "drop", "reject", "return")
                verdict = target.lower() if known else {"-j": "jump", "-g": "goto"}[word]
            case "-i" | "-o":
                ours = next(remaining) == f"{_LINKS}+"
                scopes.append({"-i": _IN, "-o": _OUT}[word] if ours else _SOME)
            case "--comment" | "--reject-with":
                next(remaining)
            case "-m" if next(remaining) == "comment":
                pass
            case _:
                scopes.append(_SOME)
    return _Rule(_scope(scopes), verdict, target)


def _run(*command: str, script: str = "") -> str:
    """The output of a program that reads `script`, in the calling thread's network namespace."""
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise KernelFailure(f"{command[0]} did not end within {_TIMEOUT_S} s") from error
    if done.returncode:
        raise KernelFailure(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
