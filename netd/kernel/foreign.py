"""Forward chains of other programs that drop what none of their rules accepts.

A packet is forwarded only if every table lets it pass, so netd's own `accept` does not help
where Docker, ufw or firewalld drop the rest. Their chains are never changed: what they do is
found and said, and the place Docker keeps for others' rules is used if so configured.
"""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
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
_LISTABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")  # what nft takes unquoted
_ENDS: Final = {"drop": "last rule drops", "reject": "last rule rejects"}

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

    They are two and never change: isolation is the business of netd's own table. Only for use
    where the configuration asks for it.
    """

    _PROGRAMS: Final = ("iptables", "ip6tables")
    _RULES: Final = tuple(
        (direction, f"{_LINKS}+", "-m", "comment", "--comment", "netd", "-j", "ACCEPT")
        for direction in ("-i", "-o")
    )

    def install(self) -> int:
        """Put the missing rules first in each DOCKER-USER there is; return how many were.

        Raises `KernelFailure` when iptables refuses.
        """
        missing = [where for where in self._places() if not self._has(*where)]
        for program, rule in missing:
            _run(program, "-w", "-I", _HOOK, *rule)
        return len(missing)

    def remove(self) -> int:
        """Take the rules out again; return how many there were. Raises `KernelFailure`."""
        present = [where for where in self._places() if self._has(*where)]
        for program, rule in present:
            _run(program, "-w", "-D", _HOOK, *rule)
        return len(present)

    def _places(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for program in self._PROGRAMS:
            if _succeeds(program, "-w", "-n", "-L", _HOOK):
                for rule in self._RULES:
                    yield program, rule

    def _has(self, program: str, rule: tuple[str, ...]) -> bool:
        return _succeeds(program, "-w", "-C", _HOOK, *rule)


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


def _nft_rules(run_json: RunJson, table: str, chain: str) -> Iterator[_Rule]:
    """The chain's rules; none for a name that nft cannot say, as one that is a word of its
    language: such chains are made by netlink, and only their policy is seen."""
    if not _LISTABLE.match(table.partition(" ")[2]) or not _LISTABLE.match(chain):
        return
    try:
        listing = run_json(f"list chain {table} {chain}")
    except KernelFailure:
        return
    for item in listing:
        if "rule" in item:
            yield _nft_rule(item["rule"].get("expr", ()))


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
            saved = _run(program, "-t", "filter").splitlines()
            rules: dict[str, list[_Rule]] = {}
            policy = ""
            for line in saved:
                if line.startswith(":"):
                    name, chain_policy = line[1:].split()[:2]
                    rules[name] = []
                    policy = chain_policy.lower() if name == "FORWARD" else policy
                elif line.startswith("-A "):
                    _, name, *words = shlex.split(line)
                    rules[name].append(_legacy_rule(words))

            def rules_of(name: str, rules: dict[str, list[_Rule]] = rules) -> Iterable[_Rule]:
                return rules.get(name, ())

            yield _Chain(f"{family} filter (legacy)", "FORWARD", policy, rules, rules_of)


def _legacy_rule(words: list[str]) -> _Rule:
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


def _succeeds(*command: str) -> bool:
    """Whether the program is there and ends without an error."""
    with contextlib.suppress(KernelFailure, FileNotFoundError):
        _run(*command)
        return True
    return False


def _run(*command: str) -> str:
    """The output of a program, which starts in the calling thread's network namespace."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise KernelFailure(f"{command[0]} did not end within {_TIMEOUT_S} s") from error
    if done.returncode:
        raise KernelFailure(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
