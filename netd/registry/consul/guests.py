"""What containers may not call theirs: names that Consul gives to what belongs to hosts."""

from typing import Final

from netd.model.service import NODE_SERVICE
from netd.registry.consul.check_bodies import CheckBody
from netd.registry.consul.forms import CONSUL
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller

_SERVICES: Final = (CONSUL, NODE_SERVICE)
_CHECKS: Final = ("serfHealth", "_node_maintenance")
_MAINTENANCE: Final = "_service_maintenance:"
_OF_SERVICE: Final = "service:"  # begins the ids that checks of a service have by themselves


def demand_name(caller: Caller, name: str) -> None:
    """Raise `Failure` 403 unless the caller may call a service so."""
    if not caller.is_host and name.lower() in _SERVICES:
        raise Failure(403, f'Permission denied: service name "{name}" is for hosts')


def demand_check_id(caller: Caller, check: CheckBody, owner: str) -> None:
    """Raise `Failure` 403 unless the caller may call a check of the service `owner` so."""
    if caller.is_host:
        return
    ident = check.ident
    if ident in _CHECKS or ident.startswith(_MAINTENANCE):
        raise Failure(403, f'Permission denied: CheckID "{ident}" is for hosts')
    own = _OF_SERVICE + owner
    if ident.startswith(_OF_SERVICE) and ident != own and not ident.startswith(own + ":"):
        raise Failure(403, f'Permission denied: CheckID "{ident}" is of another service')
