"""Which prepared query answers to a name, and what a template becomes for it. Without I/O."""

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from netd.registry.consul.captures import groups_of
from netd.registry.consul.query_spec import Query, Wanted
from netd.registry.consul.regexps import BadPattern, Budget
from netd.registry.http.call import Failure

# `$${` is a `${` that stands for itself.
_PART: Final = re.compile(r"\$\$\{|\$\{([^{}]{0,100})\}")
_MATCH: Final = re.compile(r"\s*match\(\s*(\d{1,3})\s*\)\s*\Z")
_RESULT_MAX: Final = 1024  # characters of a text that was made

Names = dict[str, str]


def find(queries: Sequence[Query], asked: str, budget: Budget | None = None) -> Query | None:
    """The query with this id or name, or the template with the longest name that `asked` begins
    with; made for it within `budget`. None: there is none. Raises `Failure`.
    """
    if is_id(asked):
        for query in queries:
            if query.id == asked.lower():
                if query.is_template:
                    raise Failure(
                        500, "prepared query templates can only be resolved up by name, not by ID"
                    )
                return query
    name = asked.lower()
    for query in queries:
        if query.name and query.name.lower() == name:
            return rendered(query, asked, budget) if query.is_template else query
    fitting = [each for each in queries if each.is_template and name.startswith(each.name.lower())]
    if not fitting:
        return None
    return rendered(max(fitting, key=lambda each: len(each.name)), asked, budget)


def is_id(text: str) -> bool:
    try:
        return len(text) == 36 and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def check(query: Query) -> None:
    """Raise `Failure` for a template that could not be made for any name."""
    if query.is_template:
        rendered(query, query.name)
    elif query.template.regexp or query.template.remove_empty_tags:
        raise Failure(400, "Template.Type must be set for a template")


def rendered(template: Query, asked: str, budget: Budget | None = None) -> Query:
    """What a template becomes for a name. Raises `Failure`."""
    try:
        regexp = template.template.regexp
        matches = groups_of(regexp, asked, budget) if regexp else ()
    except BadPattern as error:
        raise Failure(400, f"Failed to compile template regexp: {error}") from None
    names = {
        "name.full": asked,
        "name.prefix": template.name,
        "name.suffix": asked[len(template.name) :],
        "agent.segment": "",
    }

    def made(text: str) -> str:
        return _PART.sub(lambda part: _value(part, names, matches), text)[:_RESULT_MAX]

    return replace(template, service=_made(template, made))


def _made(template: Query, made: Callable[[str], str]) -> Wanted:
    wanted = template.service
    tags = tuple(map(made, wanted.tags))
    if template.template.remove_empty_tags:
        tags = tuple(tag for tag in tags if tag)
    datacenters = tuple(map(made, wanted.failover.datacenters))
    return replace(
        wanted,
        service=made(wanted.service),
        near=made(wanted.near),
        tags=tags,
        node_meta={key: made(value) for key, value in wanted.node_meta.items()},
        service_meta={key: made(value) for key, value in wanted.service_meta.items()},
        failover=replace(wanted.failover, datacenters=datacenters),
    )


def _value(part: "re.Match[str]", names: Names, matches: Sequence[str]) -> str:
    inner = part[1]
    if inner is None:
        return "${"
    found = names.get(inner.strip())
    if found is not None:
        return found
    numbered = _MATCH.match(inner)
    if numbered is None:
        raise Failure(400, f"Bad template: {part[0]!r} is not known")
    number = int(numbered[1])
    return matches[number] if number < len(matches) else ""
