"""A service of the catalogue, as Eureka's clients see it."""

from netd.model.service import Service
from netd.registry.eureka import json_form, xml_form
from netd.registry.eureka.instances import Instance
from netd.registry.eureka.registrations import Registration, registration_of, shown

Name = tuple[str, str]  # app, instance id: what clients know it by
Key = tuple[str, str, str]  # and its network: nobody stands for an instance of another one


class Seen:
    """`instance` is None while it is not shown; `registration`, unless a client of Eureka's has
    registered it.
    """

    __slots__ = ("_written", "instance", "key", "registration", "service")

    def __init__(self, service: Service) -> None:
        self.service = service
        self.registration: Registration | None = registration_of(service)
        self.instance: Instance | None = shown(service, self.registration)
        if self.registration is not None:
            name = self.registration.instance.key
        else:
            name = (service.name.upper(), service.id)
        self.key: Key = (*name, service.network)
        self._written: dict[tuple[str, bool, str], bytes] = {}

    @property
    def order(self) -> tuple[bool, bool, int, str]:
        """Of several of one name that somebody sees in different networks, the first is shown:
        what is no client's of Eureka's, then what is of no network, then what is here longest.
        """
        known, service = self.registration, self.service
        since_ms = 0 if known is None else known.instance.lease.registered_ms
        return known is not None, bool(service.network), since_ms, service.network

    @property
    def rank(self) -> tuple[int, str]:
        """Of several of one key, that of the highest rank counts."""
        if self.registration is None:
            return -1, self.service.id
        return self.registration.stamp_ms, self.service.node

    def is_as(self, other: "Seen") -> bool:
        """Whether Eureka's clients see no difference."""
        return self.instance == other.instance and self.service.network == other.service.network

    def keep_written(self, other: "Seen") -> None:
        """Take over what has been made of one that is the same to clients."""
        self._written = other._written

    def written(self, form: str, action: str, *, reduced: bool) -> bytes:
        """The instance in `form`, made once."""
        key = (form, reduced, action)
        data = self._written.get(key)
        if data is None:
            write = json_form.write_instance if form == "json" else xml_form.write_instance
            assert self.instance is not None
            data = self._written[key] = write(self.instance, action, reduced=reduced)
        return data
