"""Who may register and change what, and which of several of one name is meant."""

from typing import Final

from netd.naming.wire import canonical
from netd.registry.eureka.clients import Clients
from netd.registry.eureka.instances import Instance
from netd.registry.eureka.registrations import is_live, service_id
from netd.registry.eureka.seen import Key, Name
from netd.registry.eureka.view import View
from netd.registry.http.call import Failure
from netd.registry.http.caller import Caller, Callers

_NOT_YOURS: Final = "only the host may register and change what is at addresses of others"


class Claims:
    """By addresses, and by networks: an app and an id are anybody's to choose, so there may be
    one of the same name in each network, and who sees one network knows of none in others.
    """

    def __init__(self, view: View, callers: Callers, clients: Clients) -> None:
        self._view = view
        self._callers = callers
        self._clients = clients

    def key_of(self, instance: Instance) -> Key:
        """Where an instance will be. What is not at the address of an endpoint of this host, the
        daemon puts into a network by its address: the same as before, if it was there before.
        """
        endpoint = self._callers.endpoint_at(instance.ip_addr)
        if endpoint:
            return (*instance.key, self._callers.network_of(endpoint))
        address = canonical(instance.ip_addr)
        for key in sorted(self._view.keys(instance.key)):
            holders = self._view.registered(key)
            if any(canonical(seen.service.address) == address for seen in holders):
                return key
        return (*instance.key, "")

    def meant(self, name: Name, caller: Caller) -> Key:
        """Which of what clients have registered under a name, in the networks that the caller
        sees: what it may speak for, if there is such.
        """
        keys = (key for key in self._view.keys(name) if caller.scope.sees(key[2]))
        found = [holders[0] for key in keys if (holders := self._view.registered(key))]
        if not found:
            return (*name, "")
        first = min(
            found, key=lambda seen: (not self._may(caller, seen.service.address), seen.order)
        )
        return first.key

    def ident(self, key: Key) -> str:
        """The id of this host's service of a key."""
        node = self._view.node
        for seen in self._view.registered(key):
            if seen.service.node == node:
                return seen.service.id
        app, instance_id, network = key
        return service_id(app, instance_id, node, network)

    def demand_free(self, key: Key, caller: Caller) -> None:
        """The caller has to have a right to what is shown under that name in the same network,
        as it would be shown the caller's instead, and in none, as that is what all see. What is
        in other networks keeps nobody away. Raises `Failure` 403.
        """
        network = key[2]
        for seen in self._view.called(key[:2]):
            other = seen.service.network
            # Where there is no endpoint, the daemon may find any network that the caller sees.
            if other in ("", network) or (not network and caller.scope.sees(other)):
                self.demand(caller, seen.service.address)
        replaced = self._view.own(self.ident(key))
        if replaced is not None and is_live(replaced):
            self.demand(caller, replaced.address)

    def demand(self, caller: Caller, address: str) -> None:
        """Raises `Failure` 403 for who may not speak for what is at an address."""
        if not self._may(caller, address):
            raise Failure(403, _NOT_YOURS)

    def _may(self, caller: Caller, address: str) -> bool:
        return self._clients.may_speak(caller, address)
