"""The cluster, and where its keys, sessions and locks are."""

from typing import Literal

from netd.cluster import addresses
from netd.daemon.settings.values import Table, WrongValue, check_absolute, check_member_url
from netd.model.errors import Invalid
from netd.model.names import check_endpoint_name


class Cluster(Table, frozen=True):
    """How this host is a member of a cluster; it is alone without a key, `bind` and `join`.

    An empty `bind` is port 7940 on all IPv4 addresses, an empty `advertise` the address of the
    host that leads to the others. A key comes from `key_file`, or by the token in
    `join_token_file` once. `insecure` lets a host without a key be reached by others.
    """

    bind: str = ""
    advertise: str = ""
    join: tuple[str, ...] = ()
    profile: Literal["lan", "fast", "wan"] = "lan"
    key_file: str = ""
    join_token_file: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        try:
            if self.bind:
                addresses.parse_own(self.bind, "bind")
            if self.advertise:
                host, _ = addresses.parse_own(self.advertise, "advertise")
                if addresses.is_wildcard(host):
                    raise Invalid(
                        f"{self.advertise!r} is no address that others reach", field="advertise"
                    )
            for index, seed in enumerate(self.join):
                addresses.parse(seed, f"join[{index}]")
        except Invalid as error:
            raise WrongValue(error.field or "", error.detail) from None
        for key, path in (("key_file", self.key_file), ("join_token_file", self.join_token_file)):
            if path:
                check_absolute(key, path)


class Kv(Table, frozen=True):
    """Where keys, sessions and locks are.

    `holder` is the name of the host that is to hold them when no host of the cluster does yet, ""
    for the cluster's first; it is the same on all hosts. With the backend `etcd` they are in a
    cluster of etcd v3, whose members are reached at `etcd`. With `networks` = `etcd` that also
    decides which networks span hosts.
    """

    backend: Literal["embedded", "etcd"] = "embedded"
    holder: str = ""
    etcd: tuple[str, ...] = ("http://127.0.0.1:2379",)
    networks: Literal["gossip", "etcd"] = "gossip"

    def __post_init__(self) -> None:
        if self.holder:
            try:
                check_endpoint_name(self.holder, "holder")
            except Invalid as error:
                raise WrongValue("holder", error.detail) from None
        if not self.etcd:
            raise WrongValue("etcd", "the address of a member at least, as http://HOST:PORT")
        for url in self.etcd:
            check_member_url("etcd", url)
