"""Prepared queries: what they are, and which are none."""

from typing import Any, Final, Literal

import msgspec
from msgspec import field

from netd.registry.consul import durations
from netd.registry.consul.fields import Fields
from netd.registry.http.call import Failure

NAME_MAX: Final = 253  # characters, of a name that DNS can ask for
TEXTS_MAX: Final = 64
BY_PREFIX: Final = "name_prefix_match"


class Failover(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Where else to look. There is one datacenter, so this is kept and shown, and has no effect."""

    nearest_n: int = 0
    datacenters: tuple[str, ...] = ()
    targets: tuple[dict[str, Any], ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Which instances. A tag that begins with "!" is one that they do not have."""

    service: str
    failover: Failover = Failover()
    only_passing: bool = False
    ignore_check_ids: tuple[str, ...] = field(name="IgnoreCheckIDs", default=())
    near: str = ""
    tags: tuple[str, ...] = ()
    node_meta: dict[str, str] = {}
    service_meta: dict[str, str] = {}
    connect: bool = False


class Dns(msgspec.Struct, frozen=True, kw_only=True):
    ttl: str = field(name="TTL", default="")


class Template(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """With a type, the query is for all names that begin with its own, and texts in what it wants
    may have parts that are made of the name.
    """

    type: Literal["", "name_prefix_match"] = ""
    regexp: str = ""
    remove_empty_tags: bool = False


class Query(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """`session`: it ends with this one, "" does not end. `token` is kept and has no effect.

    An index that is 0 in what is stored is that of the write that has stored it.
    """

    id: str = field(name="ID")
    name: str = ""
    session: str = ""
    token: str = ""
    template: Template = Template()
    service: Wanted
    dns: Dns = field(name="DNS", default=Dns())
    create_index: int = 0
    modify_index: int = 0

    @property
    def is_template(self) -> bool:
        return self.template.type != ""


def query_of(fields: Fields, query_id: str) -> Query:
    """What is asked for, but for what its template may say. Raises `Failure`."""
    name = fields.text("name")
    if len(name) > NAME_MAX:
        raise Failure(400, f"Query name has more than {NAME_MAX} characters")
    return Query(
        id=query_id,
        name=name,
        session=fields.text("session"),
        token=fields.text("token"),
        template=_template(_part(fields, "template")),
        service=_wanted(_part(fields, "service")),
        dns=Dns(ttl=_ttl(_part(fields, "dns").text("ttl"))),
    )


def _wanted(fields: Fields) -> Wanted:
    service = fields.text("service")
    if not service:
        raise Failure(400, "Must provide a Service name to query")
    near = _part(fields, "failover")
    nearest = near.number("nearestn")
    if nearest < 0:
        raise Failure(400, f"Bad NearestN '{nearest}', must be >= 0")
    targets = near.list("targets")
    if not all(isinstance(each, dict) for each in targets):
        raise Failure(400, "Request decode failed: expected a list of objects for Targets")
    wanted = Wanted(
        service=service,
        failover=Failover(
            nearest_n=nearest, datacenters=near.texts("datacenters"), targets=tuple(targets)
        ),
        only_passing=fields.flag("onlypassing"),
        ignore_check_ids=fields.texts("ignorecheckids"),
        near=fields.text("near"),
        tags=fields.texts("tags"),
        node_meta=fields.mapping("nodemeta"),
        service_meta=fields.mapping("servicemeta"),
        connect=fields.flag("connect"),
    )
    for each in (wanted.tags, wanted.ignore_check_ids, wanted.node_meta, wanted.service_meta):
        if len(each) > TEXTS_MAX:
            raise Failure(400, f"Query has a list of more than {TEXTS_MAX}")
    return wanted


def _template(fields: Fields) -> Template:
    kind = fields.text("type")
    if kind not in ("", BY_PREFIX):
        raise Failure(400, f"Bad Template.Type '{kind[:40]}'")
    return Template(
        type=BY_PREFIX if kind else "",
        regexp=fields.text("regexp"),
        remove_empty_tags=fields.flag("removeemptytags"),
    )


def _ttl(text: str) -> str:
    if not text:
        return ""
    try:
        length_s = durations.seconds_of(text)
    except ValueError as error:
        raise Failure(400, f"Bad DNS TTL '{text[:40]}': {error}") from None
    if length_s < 0:
        raise Failure(400, f"DNS TTL '{text[:40]}', must be >=0")
    return text


def _part(fields: Fields, name: str) -> Fields:
    """One without anything in it where there is none."""
    return fields.fields(name) or Fields({})
