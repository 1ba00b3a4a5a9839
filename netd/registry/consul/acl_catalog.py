"""What rights writes to the catalogue need, as a whole before any part of them is done."""

from collections.abc import Iterable
from typing import Final

from netd.naming.values import Scope
from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.records import Instance
from netd.registry.consul.fields import Fields
from netd.registry.http.rights import Rights

_EVERYTHING: Final = Scope(None)


def demand_registration(
    catalog: Catalog, rights: Rights, node: str, fields: Fields, checks: Iterable[Fields]
) -> None:
    """Raise `Failure` 403 unless all may be registered that the body of a call has."""
    known = catalog.node(node)
    if known is None or (known.is_foreign and not fields.flag("skipnodeupdate")):
        rights.demand("node", node, "write")
    service = fields.fields("service")
    name = ""
    if service is not None:
        name = service.text("name") or service.text("service")
        rights.demand("service", name, "write")
        _demand_known(catalog, rights, node, service.text("id") or name)
    for check in checks:
        ident = check.text("serviceid")
        if not ident:
            rights.demand("node", node, "write")
        elif service is None or ident != (service.text("id") or name):
            _demand_known(catalog, rights, node, ident)


def demand_deregistration(
    catalog: Catalog, rights: Rights, node: str, ident: str, check: str
) -> None:
    """Raise `Failure` 403 unless that may go: the instance `ident`, else the check `check`, else
    the node. Who may write a node may remove whatever is on it.
    """
    if rights.may("node", node, "write"):
        return
    owner = catalog.find(node, ident) if ident else None
    if check and not ident:
        owner = _owner_of_check(catalog, node, check)
    if owner is None or owner.is_node:
        rights.demand("node", node, "write")
    else:
        rights.demand("service", owner.name, "write")


def _demand_known(catalog: Catalog, rights: Rights, node: str, ident: str) -> None:
    """What takes the place of an instance needs the right to that one, too."""
    instance = catalog.find(node, ident)
    if instance is not None:
        rights.demand("service", instance.name, "write")


def _owner_of_check(catalog: Catalog, node: str, ident: str) -> Instance | None:
    record = catalog.record_of(node)
    for instance in (*catalog.of_node(node, _EVERYTHING), *([] if record is None else [record])):
        if any(instance.check_ident(each) == ident for each in instance.service.checks):
            return instance
    return None
