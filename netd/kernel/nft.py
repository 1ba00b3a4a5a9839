"""netd's nftables table, by libnftables inside the process (starting `nft` costs 4 ms).

Text goes in, because it is what people read in an error; what comes out is read by
`nft_decode`. All that goes in is made by `netd.plan.firewall`, which lets only checked values
pass.
"""

import ctypes
import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pyroute2.netlink import NETLINK_NETFILTER

from netd.kernel.netlink import NetlinkSocket
from netd.kernel.nft_decode import (
    DIGESTS,
    elements,
    generation,
    list_digest,
    recorded_digests,
)
from netd.model.errors import Invalid, KernelFailure, Unavailable
from netd.plan.firewall import TABLE, element_text, has_set, key_text
from netd.plan.objects import Ruleset, SetElement, State, state_of
from netd.plan.operations import Failure, Operation, Verb

ALTERED: Final = "altered"  # the digest of rules that are not as they were loaded

_LIBRARY = "libnftables.so.1"
# enum in libnftables.h. Numbers instead of names: names depend on /etc/protocols and others.
_JSON = 1 << 4
_NUMERIC = 1 << 7 | 1 << 8 | 1 << 9
# The digest of the loaded text and of the rules as the kernel listed them are kept as the
# comment of the one element of this set, in the table itself: they live and die with it.
_DIGESTS_SET = f"add set {TABLE} {DIGESTS} {{ type ifname; size 1; }}\n"
_REPLACE = f"add table {TABLE}\ndelete table {TABLE}\n"  # `delete` alone fails without a table
_ELEMENTS_AT_ONCE: Final = 4096  # in one transaction; what belongs together is less
_LOOKS: Final = 5
_ERRNO = {os.strerror(number): number for number in errno.errorcode}

Listing = list[dict[str, Any]]


class Nftables:
    """One libnftables context, in the network namespace of the thread that makes it.

    Not for concurrent use: libnftables has no locks. Raises `Unavailable` without the library.

    What was seen is kept with the kernel's number of that generation of its tables. As long as
    only transactions of this object have changed it, there is nothing to look at.
    """

    def __init__(self) -> None:
        self._library = _load_library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise Unavailable("libnftables cannot open a netlink socket; is CAP_NET_ADMIN there?")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
        self._seen: State = {}
        self._seen_at = -1  # the generation; -1: nothing was seen

    def close(self) -> None:
        """Give the netlink sockets back. The tables stay."""
        self._netfilter.close()
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Run operations on the ruleset and on elements; return those that failed.

        Elements between two rulesets are one transaction, or several when they are thousands.
        If the kernel refuses it, each is tried alone, so that one wrong element does not keep
        out the others. An `add` of an element that is there with another value replaces it; a
        `delete` of one that is not there succeeds.
        """
        failures = []
        grouped = itertools.groupby(operations, lambda op: isinstance(op.object, Ruleset))
        for is_ruleset, group in grouped:
            if is_ruleset:
                failures += [failure for op in group if (failure := self._apply_ruleset(op))]
            else:
                of_elements = list(group)
                for at in range(0, len(of_elements), _ELEMENTS_AT_ONCE):
                    failures += self._apply_elements(of_elements[at : at + _ELEMENTS_AT_ONCE])
        return failures

    def observe(self) -> State:
        """The ruleset and the elements that the kernel has; empty without netd's table.

        The ruleset's digest is that of the text it was loaded from, and `ALTERED` when the
        rules, chains or sets are not as they were after loading.
        """
        for _ in range(_LOOKS):
            now = self._generation()
            if now != self._seen_at:
                self._seen, self._seen_at = self._look(), now
                if self._generation() != now:  # it was changed meanwhile
                    self._seen_at = -1
                    continue
            return dict(self._seen)
        raise KernelFailure("nft: other programs change tables too fast for them to be read")

    def takes(self, declaration: str) -> bool:
        """Whether a set or map that is declared so can be in a table; one is made with it."""
        return not self._run(f"table {TABLE} {{\n{declaration}}}\n")[1]

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

    def _look(self) -> State:
        listed = list_digest(self._netfilter)
        if not listed:
            return {}
        recorded = recorded_digests(self._netfilter)
        text_digest, list_digest_then = recorded or ("", "")
        intact = recorded is not None and list_digest_then == listed
        ruleset = Ruleset(digest=text_digest if intact else ALTERED)
        return state_of([ruleset, *elements(self._netfilter)])

    def _generation(self) -> int:
        return generation(self._netfilter)

    def _apply_ruleset(self, operation: Operation) -> Failure | None:
        ruleset = operation.object
        assert isinstance(ruleset, Ruleset)
        self._seen_at = -1
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
        kept = [
            obj
            for obj in self.observe().values()
            if isinstance(obj, SetElement) and has_set(ruleset, obj.set_name)
        ]
        script = _REPLACE + ruleset.script + _DIGESTS_SET
        _, error = self._run(script + _commands(_additions(kept)))
        if error and kept:
            _, error = self._run(script)
        if error:
            return error
        digests = f"{ruleset.digest} {list_digest(self._netfilter)}"
        element = f'{{ "ruleset" comment "{digests}" }}'
        return self._run(f"add element {TABLE} {DIGESTS} {element}")[1]

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
        if valid and not self._run_noted(_commands(steps), valid):
            self._seen_at = -1
            failures += [failure for op in valid if (failure := self._apply_alone(op))]
        return failures

    def _run_noted(self, commands: str, operations: Sequence[Operation]) -> bool:
        """Run one transaction; if it succeeds, what is known is what it makes of the tables.

        An element that is there already stays as it is, and changes nothing.
        """
        known = self._seen_at >= 0 and self._seen_at == self._generation()
        if self._run(commands)[1]:
            return False
        now = self._generation()
        if not known or now not in (self._seen_at, self._seen_at + 1):
            self._seen_at = -1  # somebody else was there, too
        elif now != self._seen_at:
            for operation in operations:
                obj = operation.object
                match operation.verb:
                    case "add":
                        self._seen.setdefault(obj.key, obj)
                    case "change":
                        self._seen[obj.key] = obj
                    case _:
                        self._seen.pop(obj.key, None)
            self._seen_at = now
        return True

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
    verb = verb or operation.verb
    steps = []
    if verb != "add":
        steps.append(("delete", element.set_name, key_text(element)))
    if verb in ("add", "change"):
        steps.append(("add", element.set_name, element_text(element)))
    return steps


def _additions(elements: Iterable[SetElement]) -> Iterator[_Step]:
    for element in elements:
        yield "add", element.set_name, element_text(element)


def _commands(steps: Iterable[_Step]) -> str:
    """A script of the steps in their order; neighbours of one kind become one command."""
    return "".join(
        f"{verb} element {TABLE} {set_name} {{ {', '.join(text for _, _, text in group)} }}\n"
        for (verb, set_name), group in itertools.groupby(steps, lambda step: step[:2])
    )


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
