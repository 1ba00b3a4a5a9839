"""netd's nftables table, by libnftables inside the process (starting `nft` costs 4 ms).

Text goes in, because it is what people read in an error; JSON comes out. All that goes in is
made by `netd.plan.firewall`, which lets only checked values pass.
"""

import ctypes
import errno
import hashlib
import ipaddress
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from netd.model.errors import Invalid, KernelFailure, Unavailable
from netd.plan.firewall import SETS, TABLE, SetSpec, element_text, is_owner, key_text
from netd.plan.objects import HOST_OWNER, Ruleset, SetElement, State, state_of
from netd.plan.operations import Failure, Operation, Verb

ALTERED: Final = "altered"  # the digest of rules that are not as they were loaded

_LIBRARY = "libnftables.so.1"
# enum in libnftables.h. Numbers instead of names: names depend on /etc/protocols and others.
_JSON = 1 << 4
_NUMERIC = 1 << 7 | 1 << 8 | 1 << 9
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
# The digest of the loaded text and of the rules as the kernel listed them are kept as the
# comment of the one element of this set, in the table itself: they live and die with it.
_DIGESTS = "digests"
_DIGESTS_SET = f"add set {TABLE} {_DIGESTS} {{ type ifname; size 1; }}\n"
_REPLACE = f"add table {TABLE}\ndelete table {TABLE}\n"  # `delete` alone fails without a table
_ERRNO = {os.strerror(number): number for number in errno.errorcode}

Listing = list[dict[str, Any]]


class Nftables:
    """One libnftables context, in the network namespace of the thread that makes it.

    Not for concurrent use: libnftables has no locks. Raises `Unavailable` without the library.
    """

    def __init__(self) -> None:
        self._library = _load_library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise Unavailable("libnftables cannot open a netlink socket; is CAP_NET_ADMIN there?")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Give the netlink socket back. The tables stay."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Run operations on the ruleset and on elements; return those that failed.

        Elements between two rulesets are one transaction. If the kernel refuses it, each is
        tried alone, so that one wrong element does not keep out the others. An `add` of an
        element that is there with another value replaces it; a `delete` of one that is not
        there succeeds.
        """
        failures = []
        grouped = itertools.groupby(operations, lambda op: isinstance(op.object, Ruleset))
        for is_ruleset, group in grouped:
            if is_ruleset:
                failures += [failure for op in group if (failure := self._apply_ruleset(op))]
            else:
                failures += self._apply_elements(list(group))
        return failures

    def observe(self) -> State:
        """The ruleset and the elements that the kernel has; empty without netd's table.

        The ruleset's digest is that of the text it was loaded from, and `ALTERED` when the
        rules, chains or sets are not as they were after loading.
        """
        listing = self.query(f"list table {TABLE}")
        if not listing:
            return {}
        recorded = _recorded_digests(listing)
        text_digest, list_digest = recorded or ("", "")
        intact = bool(recorded) and list_digest == _list_digest(listing)
        return state_of([Ruleset(digest=text_digest if intact else ALTERED), *_elements(listing)])

    def query(self, command: str) -> Listing:
        """Run a `list` command; the objects it lists, [] when there is no such thing.

        Raises `KernelFailure` when it fails otherwise.
        """
        output, error = self._run(command, _JSON | _NUMERIC)
        if not error:
            listing: Listing = json.loads(output)["nftables"]
            return listing[1:]  # the first is about nft itself
        if _errno(error) == errno.ENOENT:
            return []
        raise KernelFailure(f"nft {command}: {_message(error)}")

    def _apply_ruleset(self, operation: Operation) -> Failure | None:
        ruleset = operation.object
        assert isinstance(ruleset, Ruleset)
        if operation.verb in ("delete", "retire"):
            _, error = self._run(_REPLACE)
        elif not ruleset.script:
            return Failure(operation=operation, errno=0, message="a ruleset without text")
        else:
            error = self._load(ruleset)
        return _failure(operation, error) if error else None

    def _load(self, ruleset: Ruleset) -> str:
        """Put the ruleset in the place of the one that is there; return the error or "".

        One transaction replaces the whole table, elements included, so no packet meets a half
        of it, however the old one looked. Elements that the new sets do not take stay out.
        """
        kept = [obj for obj in self.observe().values() if isinstance(obj, SetElement)]
        script = _REPLACE + ruleset.script + _DIGESTS_SET
        _, error = self._run(script + _commands(_additions(kept)))
        if error and kept:
            _, error = self._run(script)
        if error:
            return error
        digests = f"{ruleset.digest} {_list_digest(self.query(f'list table {TABLE}'))}"
        element = f'{{ "ruleset" comment "{digests}" }}'
        return self._run(f"add element {TABLE} {_DIGESTS} {element}")[1]

    def _apply_elements(self, operations: list[Operation]) -> list[Failure]:
        steps: list[_Step] = []
        valid: list[Operation] = []
        failures = []
        for operation in operations:
            try:
                steps += _steps(operation)
                valid.append(operation)
            except Invalid as error:
                message = error.detail
                failures.append(Failure(operation=operation, errno=errno.EINVAL, message=message))
        if valid and self._run(_commands(steps))[1]:
            failures += [failure for op in valid if (failure := self._apply_alone(op))]
        return failures

    def _apply_alone(self, operation: Operation) -> Failure | None:
        _, error = self._run(_commands(_steps(operation)))
        if not error:
            return None
        match operation.verb, _errno(error):
            case (("delete" | "retire"), errno.ENOENT):
                return None
            case "add", errno.EEXIST:
                _, error = self._run(_commands(_steps(operation, verb="change")))
            case "change", errno.ENOENT:
                _, error = self._run(_commands(_steps(operation, verb="add")))
        return _failure(operation, error) if error else None

    def _run(self, commands: str, flags: int = 0) -> tuple[str, str]:
        """Run a script; its output and its error, "" when there was none."""
        library, context = self._library, self._context
        library.nft_ctx_output_set_flags(context, flags)
        failed = library.nft_run_cmd_from_buffer(context, commands.encode())
        output = library.nft_ctx_get_output_buffer(context) or b""
        error = library.nft_ctx_get_error_buffer(context) or b""
        if not failed:
            return output.decode(), ""
        return "", error.decode(errors="replace") or "unknown error"


_Step = tuple[str, str, str]  # verb, set, element


def _steps(operation: Operation, verb: Verb | None = None) -> list[_Step]:
    """What the operation does, with another verb if one is given."""
    element = operation.object
    if not isinstance(element, SetElement):
        raise Invalid(f"{operation.text()}: not an object of nftables")
    delete = ("delete", element.set_name, key_text(element))
    match verb or operation.verb:
        case "add":
            return [("add", element.set_name, element_text(element))]
        case "change":
            return [delete, ("add", element.set_name, element_text(element))]
        case _:
            return [delete]


def _additions(elements: Iterable[SetElement]) -> Iterator[_Step]:
    for element in elements:
        yield "add", element.set_name, element_text(element)


def _commands(steps: Iterable[_Step]) -> str:
    """A script of the steps in their order; neighbours of one kind become one command."""
    return "".join(
        f"{verb} element {TABLE} {set_name} {{ {', '.join(text for _, _, text in group)} }}\n"
        for (verb, set_name), group in itertools.groupby(steps, lambda step: step[:2])
    )


def _elements(listing: Listing) -> Iterator[SetElement]:
    """The elements of netd's sets. One without netd's comment counts as the host's."""
    for item in listing:
        body = item.get("set") or item.get("map")
        spec = SETS.get(body["name"]) if body else None
        if body is None or spec is None:
            continue
        for entry in body.get("elem", ()):
            yield _element(body["name"], spec, entry)


def _element(set_name: str, spec: SetSpec, entry: Any) -> SetElement:
    key, value = entry if spec.value else (entry, None)
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment = key["elem"].get("comment", "")
        key = key["elem"]["val"]
    return SetElement(
        owner=comment if is_owner(comment) else HOST_OWNER,
        set_name=set_name,
        element=_fields(spec.key, key),
        value=_fields(spec.value, value) if spec.value else (),
    )


def _fields(types: tuple[str, ...], value: Any) -> tuple[str, ...]:
    parts = value["concat"] if isinstance(value, dict) else [value]
    return tuple(map(_field, types, parts))


def _field(kind: str, value: Any) -> str:
    if kind == "inet_proto":
        return _PROTOCOLS.get(value, str(value))
    if kind.endswith("_prefix"):
        if isinstance(value, dict):
            value = "{addr}/{len}".format(**value["prefix"])
        return str(ipaddress.ip_network(value))
    text = str(value)
    if kind == "ipv6_addr" and "." in text:  # glibc writes ::ffff:1.2.3.4, Python does not
        return str(ipaddress.IPv6Address(text))
    return text


def _recorded_digests(listing: Listing) -> tuple[str, str] | None:
    for item in listing:
        if item.get("set", {}).get("name") != _DIGESTS:
            continue
        for entry in item["set"].get("elem", ()):
            text, _, listed = entry["elem"].get("comment", "").partition(" ")
            return text, listed
    return None


def _list_digest(listing: Listing) -> str:
    """A digest of tables, sets, chains and rules: without elements, and without the handles,
    which count what was ever made and not what there is."""
    plain = []
    for item in listing:
        for kind, body in item.items():
            kept = {name: value for name, value in body.items() if name not in ("handle", "elem")}
            plain.append([kind, kept])
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _failure(operation: Operation, error: str) -> Failure:
    return Failure(operation=operation, errno=_errno(error), message=_message(error))


def _message(error: str) -> str:
    """The first error of libnftables' report, without the script and the marks under it."""
    lines = [line.partition("Error: ")[2] for line in error.splitlines() if "Error: " in line]
    return lines[0] if lines else error.strip()


def _errno(error: str) -> int:
    """The errno that libnftables put into words; 0 for an error of its own.

    Around the words may be `Could not process rule: ` and `; did you mean …`.
    """
    return _ERRNO.get(_message(error).partition("; ")[0].rpartition(": ")[2], 0)


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unavailable(
            f"{_LIBRARY} cannot be loaded ({error}); install the package libnftables1 or nftables"
        ) from error
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    return library
