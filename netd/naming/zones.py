"""The zones that netd answers for, and what the names in them are forms of."""

from typing import Final, Literal, NamedTuple

from netd.model.directory import ZoneEntry
from netd.naming.values import Record
from netd.naming.wire import is_name, name_wire, soa_wire

DATACENTER: Final = "dc1"  # there is one, which Consul's clients may name
_KINDS: Final = frozenset({"service", "node", "virtual", "addr"})
_PARTS_MAX: Final = 8  # labels before the kind of a name; nothing has more
_REFRESH_S, _RETRY_S, _EXPIRE_S = 3600, 600, 86_400  # for secondaries, which there are not
_SERIAL: Final = 1

FormKind = Literal["apex", "service", "node", "virtual", "addr", "endpoint", "none"]


class Form(NamedTuple):
    """What a name in a zone asks for.

    `name` is that of a node or endpoint, or of a service with a virtual address, or the digits
    of an address. A service may be meant in several ways: `readings` are its name and the tag
    that instances must have, "" for any. What is `above` other names exists, even if it is
    nothing itself (RFC 8020).
    """

    kind: FormKind
    name: str = ""
    network: str = ""
    readings: tuple[tuple[str, str], ...] = ()
    above: bool = False


APEX: Final = Form("apex")
ABOVE: Final = Form("none", above=True)
NONE: Final = Form("none")


class Zone(NamedTuple):
    """A zone, with what is at its top."""

    name: str
    suffix: str  # its name with a dot before
    consul: bool
    soa: Record
    ns: Record

    def holds(self, name: str) -> bool:
        return name.endswith(self.suffix) or name == self.name

    def form_of(self, name: str) -> Form:
        """What `name`, which the zone holds, asks for."""
        if name == self.name:
            return APEX
        part = name[: -len(self.suffix)]
        label, _, rest = part.partition(".")
        last = part[part.rfind(".") + 1 :]
        if last not in _KINDS and label[:1] != "_" and not self.consul:
            return Form("endpoint", label, rest)
        return _special(part.split("."), self.consul)


def _special(labels: list[str], consul: bool) -> Form:
    """Names with a kind in them, and those of RFC 2782."""
    if consul:
        labels = _without_datacenter(labels)
        if not labels:
            return ABOVE
    kind, before = labels[-1], labels[:-1]
    if kind not in _KINDS:
        if len(labels) == 2 and labels[1].startswith("_"):
            return _rfc2782(labels)
        if len(labels) == 1:
            return Form("none" if consul else "endpoint", kind, above=kind.startswith("_"))
        return NONE if consul else Form("endpoint", labels[0], ".".join(labels[1:]))
    if not before:
        return ABOVE
    if kind == "service":
        if len(before) == 2 and before[0].startswith("_") and before[1].startswith("_"):
            return _rfc2782(before)
        above = len(before) == 1 and before[0].startswith("_")  # e.g. _tcp
        return Form("service", readings=_readings(before), above=above)
    if kind == "virtual":
        return Form("virtual", ".".join(before))
    return Form("node" if kind == "node" else "addr", ".".join(before))


def _rfc2782(labels: list[str]) -> Form:
    """`_<service>._<protocol or tag>`: every service has all protocols."""
    tag = "" if labels[1] in ("_tcp", "_udp") else labels[1][1:]
    return Form("service", readings=((labels[0][1:], tag),))


def _without_datacenter(labels: list[str]) -> list[str]:
    """Consul's names may end with the datacenter, also as `<name>.dc`."""
    if labels[-1] == "dc" and labels[-2:-1] == [DATACENTER]:
        return labels[:-2]
    return labels[:-1] if labels[-1] == DATACENTER else labels


def _readings(labels: list[str]) -> tuple[tuple[str, str], ...]:
    """Services may have dots in their names, tags too: the longest name first."""
    if len(labels) > _PARTS_MAX:
        return ()
    return tuple((".".join(labels[at:]), ".".join(labels[:at])) for at in range(len(labels)))


class Zones:
    """Both zones, made of what is configured."""

    def __init__(self, entry: ZoneEntry) -> None:
        self.entry = entry
        self.ttl_s = entry.settings.ttl_s
        self.node = entry.node.lower()
        self.own = self._zone(entry.zone.lower(), consul=False)
        consul = entry.settings.consul_zone.lower()
        self.consul = self._zone(consul, consul=True) if consul else None

    def of(self, name: str) -> Zone | None:
        """The zone that holds `name`."""
        if self.own.holds(name):
            return self.own
        if self.consul is not None and self.consul.holds(name):
            return self.consul
        return None

    def node_name(self, node: str, zone: Zone) -> str:
        within = f"{node}.node.{DATACENTER}" if zone.consul else f"{node}.node"
        return within + zone.suffix

    def address_name(self, digits: str, zone: Zone) -> str:
        within = f"{digits}.addr.{DATACENTER}" if zone.consul else f"{digits}.addr"
        return within + zone.suffix

    def soa(self, zone: str) -> Record:
        """The head of a zone, which says too how long there is no such name."""
        primary, mailbox = self._primary(zone), f"hostmaster.{zone}"
        times = (_SERIAL, _REFRESH_S, _RETRY_S, _EXPIRE_S, self.ttl_s)
        return Record(
            name=zone,
            type="SOA",
            ttl_s=self.ttl_s,
            data=f"{primary}. {mailbox}. {' '.join(map(str, times))}",
            rdata=soa_wire(primary, mailbox, times),
        )

    def _zone(self, name: str, *, consul: bool) -> Zone:
        primary = self._primary(name)
        ns = Record(name, "NS", self.ttl_s, primary + ".", name_wire(primary))
        return Zone(name, "." + name, consul, self.soa(name), ns)

    def _primary(self, zone: str) -> str:
        """This host answers for the zone."""
        name = f"{self.node}.node.{self.entry.zone.lower()}"
        return name if is_name(name) else zone
