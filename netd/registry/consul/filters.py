"""Filter expressions (go-bexpr): which rows of an answer are meant.

A schema says which selectors there are, by the fields of a row: so one that is not known is an
error also where there are no rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from netd.registry.consul.filter_syntax import BadFilter, Both, Match, Not, Tree, parse
from netd.registry.consul.options import boolean_of
from netd.registry.consul.regexps import BadPattern, Budget, Pattern
from netd.registry.http.call import Failure

Kind = Literal["text", "number", "flag", "texts", "map"]
Schema = Mapping[str, "Kind | Schema"]
Row = Mapping[str, Any]
Test = Callable[[Row], bool]

_COMPILED: Final = 512  # expressions that need not be read again
_SHOWN: Final = 80
TERMS_MAX: Final = 64  # of an expression
_TERM_STEPS: Final = 3  # what a term costs on a row, beside what its values do

WEIGHTS: Final[Schema] = {"Passing": "number", "Warning": "number"}
PROXY: Final[Schema] = {
    "DestinationServiceName": "text",
    "DestinationServiceID": "text",
    "LocalServiceAddress": "text",
    "LocalServicePort": "number",
    "Mode": "text",
}
CONNECT: Final[Schema] = {"Native": "flag"}
NODE: Final[Schema] = {
    "ID": "text",
    "Node": "text",
    "Address": "text",
    "Datacenter": "text",
    "TaggedAddresses": "map",
    "Meta": "map",
    "CreateIndex": "number",
    "ModifyIndex": "number",
    "PeerName": "text",
}
SERVICE: Final[Schema] = {
    "ID": "text",
    "Service": "text",
    "Kind": "text",
    "Tags": "texts",
    "Address": "text",
    "TaggedAddresses": "map",
    "Meta": "map",
    "Port": "number",
    "SocketPath": "text",
    "Weights": WEIGHTS,
    "EnableTagOverride": "flag",
    "Proxy": PROXY,
    "Connect": CONNECT,
    "Datacenter": "text",
    "PeerName": "text",
    "CreateIndex": "number",
    "ModifyIndex": "number",
}
CHECK: Final[Schema] = {
    "Node": "text",
    "CheckID": "text",
    "Name": "text",
    "Status": "text",
    "Notes": "text",
    "Output": "text",
    "ServiceID": "text",
    "ServiceName": "text",
    "ServiceTags": "texts",
    "Type": "text",
    "Interval": "text",
    "Timeout": "text",
    "PeerName": "text",
    "CreateIndex": "number",
    "ModifyIndex": "number",
}
HEALTH: Final[Schema] = {"Node": NODE, "Service": SERVICE, "Checks": CHECK}
CATALOG: Final[Schema] = {
    "ID": "text",
    "Node": "text",
    "Address": "text",
    "Datacenter": "text",
    "TaggedAddresses": "map",
    "NodeMeta": "map",
    "ServiceKind": "text",
    "ServiceID": "text",
    "ServiceName": "text",
    "ServiceTags": "texts",
    "ServiceAddress": "text",
    "ServiceTaggedAddresses": "map",
    "ServiceWeights": WEIGHTS,
    "ServiceMeta": "map",
    "ServicePort": "number",
    "ServiceSocketPath": "text",
    "ServiceEnableTagOverride": "flag",
    "ServiceProxy": PROXY,
    "ServiceConnect": CONNECT,
    "ServicePeerName": "text",
    "CreateIndex": "number",
    "ModifyIndex": "number",
}


def filtered(rows: Iterable[dict[str, Any]], text: str, schema: Schema) -> list[dict[str, Any]]:
    """The rows that match. Raises `Failure` 400 for what is no expression about them."""
    if not text:
        return list(rows)
    test = test_of(text, schema)
    return [row for row in rows if test(row)]


def test_of(text: str, schema: Schema) -> Test:
    """For the rows of one call: all of it has one budget. It and its test raise `Failure` 400."""
    budget = Budget()
    try:
        test = _test(_parsed(text), schema, budget)
    except (BadFilter, BadPattern) as error:
        raise Failure(400, f"Failed to create boolean expression evaluator: {error}") from None

    def within_budget(row: Row) -> bool:
        try:
            return test(row)
        except BadPattern as error:
            raise Failure(400, f"Failed to filter: {error}") from None

    return within_budget


@lru_cache(maxsize=_COMPILED)
def _parsed(text: str) -> Tree:
    tree = parse(text)
    if _terms(tree) > TERMS_MAX:
        raise BadFilter(f"the expression has more than {TERMS_MAX} terms")
    return tree


def _terms(tree: Tree) -> int:
    count, ahead = 0, [tree]
    while ahead:
        match ahead.pop():
            case Not(inner):
                ahead.append(inner)
            case Both(left, right, _):
                ahead += (left, right)
            case Match():
                count += 1
    return count


def _test(tree: Tree, schema: Schema, budget: Budget) -> Test:
    match tree:
        case Not(inner):
            test = _test(inner, schema, budget)
            return lambda row: not test(row)
        case Both(left, right, either):
            first, second = _test(left, schema, budget), _test(right, schema, budget)
            if either:
                return lambda row: first(row) or second(row)
            return lambda row: first(row) and second(row)
        case Match():
            return _match(tree, schema, budget)


def _match(match: Match, schema: Schema, budget: Budget) -> Test:
    kind = _kind(match.selector, schema)
    test = _value_test(match, kind, budget)
    selector = match.selector
    nothing = [""] if match.operator == "empty" else []  # what there is not, is empty

    def is_match(row: Row) -> bool:
        values = _values(row, selector) or nothing
        budget.spend(_TERM_STEPS + len(values))
        return any(map(test, values))

    if match.negated:
        return lambda row: not is_match(row)
    return is_match


def _kind(selector: tuple[str, ...], schema: Schema) -> "Kind | Schema":
    found: Kind | Schema = schema
    for at, part in enumerate(selector):
        if found == "map" and at == len(selector) - 1:
            return "text"
        if isinstance(found, str) or part not in found:
            name = ".".join(selector)[:_SHOWN]
            raise BadFilter(f'Selector "{name}" is not valid')
        found = found[part]
    return found


def _value_test(match: Match, kind: "Kind | Schema", budget: Budget) -> Callable[[Any], bool]:
    value = match.value
    match match.operator, kind:
        case "equal", "text":
            return lambda found: bool(found == value)
        case "equal", "number":
            number = _number(value)
            return lambda found: bool(found == number)
        case "equal", "flag":
            wanted = boolean_of(value)
            if wanted is None:
                raise BadFilter(f"{value[:_SHOWN]!r} is not true or false")
            return lambda found: bool(found) is wanted
        case "in", "text" | "texts" | "map":
            return lambda found: value in found
        case "empty", "text" | "texts" | "map":
            return lambda found: not found
        case "empty", Mapping():
            return lambda found: not found
        case "matches", "text":
            return Pattern(value, budget).is_in
    name = ".".join(match.selector)[:_SHOWN]
    raise BadFilter(f'Invalid match operator "{match.operator}" for selector "{name}"')


def _number(text: str) -> float:
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise BadFilter(f"{text[:_SHOWN]!r} is not a number") from None


def _values(row: Any, selector: Sequence[str]) -> list[Any]:
    """What the selector leads to in a row. A list of objects has what each of them has; a key
    that a map does not have has nothing, of which no value is equal to anything.
    """
    found = [row]
    for part in selector:
        following = []
        for value in found:
            if isinstance(value, dict) and part in value:
                following.append(value[part])
            elif isinstance(value, list | tuple):
                following += [
                    each[part] for each in value if isinstance(each, dict) and part in each
                ]
        found = following
    return found
