"""Who is asked for other names: settings, resolv.conf, and what systemd-resolved asks."""

from pathlib import Path

import pytest

from netd.registry.dns.upstreams import UPSTREAMS_MAX, Upstream, Upstreams, parse_upstream


class Host:
    """Files of a host, and where we listen on it."""

    def __init__(self, folder: Path) -> None:
        self.resolv_conf = folder / "resolv.conf"
        self.resolved_conf = folder / "resolved.conf"
        self.own: set[tuple[str, int]] = set()
        self.upstreams = Upstreams(self._is_own, str(self.resolv_conf), str(self.resolved_conf))

    def _is_own(self, host: str, port: int) -> bool:
        return (host, port) in self.own

    def current(self) -> list[str]:
        self.upstreams.look_now()
        return [str(each) for each in self.upstreams.current()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("192.0.2.1", Upstream("192.0.2.1")),
        ("192.0.2.1:5353", Upstream("192.0.2.1", 5353)),
        ("2001:DB8::1", Upstream("2001:db8::1")),
        ("[2001:db8::1]", Upstream("2001:db8::1")),
        ("[2001:db8::1]:5353", Upstream("2001:db8::1", 5353)),
        ("fe80::1%eth0", Upstream("fe80::1", 53, "eth0")),
        ("[fe80::1%eth0]:54", Upstream("fe80::1", 54, "eth0")),
    ],
)
def test_an_address_is_read(text: str, wanted: Upstream) -> None:
    assert parse_upstream(text) == wanted
    assert parse_upstream(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "dns.example", "192.0.2", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:²", "192.0.2.1:",
     "[::1", "[::1]53", "[::1]:x", "::1]:53", "192.0.2.1:53:53"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_upstream(text)


def test_a_link_that_is_gone_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"."):
        Upstream("fe80::1", 53, "no-such-link").sockaddr()
    assert Upstream("::1", 53, "lo").sockaddr() == ("::1", 53, 0, 1)
    assert Upstream("192.0.2.1", 54).sockaddr() == ("192.0.2.1", 54)


def test_those_of_resolv_conf_are_asked(host: Host) -> None:
    host.resolv_conf.write_text(
        "# nameserver 192.0.2.9\n"
        "search example.org\n"
        "nameserver 192.0.2.1\n"
        "nameserver\t192.0.2.2  ; second\n"
        "nameserver 192.0.2.1\n"
        "nameserver nonsense\n"
        "nameserver\n"
        "nameserver fe80::1%eth0\n"
        "options ndots:2\n"
    )
    assert host.current() == ["192.0.2.1", "192.0.2.2", "fe80::1%eth0"]


def test_no_more_than_a_few_are_asked(host: Host) -> None:
    host.resolv_conf.write_text("".join(f"nameserver 192.0.2.{n}\n" for n in range(50)))
    assert len(host.current()) == UPSTREAMS_MAX


def test_configured_ones_come_instead(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 192.0.2.1\n")
    host.upstreams.configured = ("198.51.100.1", "[2001:db8::1]:5353", "wrong")
    assert host.current() == ["198.51.100.1", "[2001:db8::1]:5353"]
    host.upstreams.configured = ()
    assert host.current() == ["192.0.2.1"]


def test_a_changed_file_is_read_again(host: Host) -> None:
    assert host.current() == []
    host.resolv_conf.write_text("nameserver 192.0.2.1\n")
    assert host.current() == ["192.0.2.1"]
    host.resolv_conf.write_text("nameserver 192.0.2.2\n")
    assert host.current() == ["192.0.2.2"]
    new = host.resolv_conf.with_suffix(".new")
    new.write_text("nameserver 192.0.2.3\n")
    new.replace(host.resolv_conf)
    assert host.current() == ["192.0.2.3"]
    host.resolv_conf.unlink()
    assert host.current() == []


def test_a_file_is_not_looked_at_for_each_question(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 192.0.2.1\n")
    assert host.current() == ["192.0.2.1"]
    host.resolv_conf.write_text("nameserver 192.0.2.2\n")
    assert [str(each) for each in host.upstreams.current()] == ["192.0.2.1"]


def test_instead_of_the_stub_those_behind_it_are_asked(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    host.resolved_conf.write_text("nameserver 127.0.0.54\nnameserver 192.0.2.7\n")
    assert host.current() == ["192.0.2.7"]
    host.resolved_conf.write_text("nameserver 192.0.2.8\n")
    assert host.current() == ["192.0.2.8"]


def test_a_stub_that_asks_nobody_but_us_is_not_asked(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 127.0.0.53\n")
    host.resolved_conf.write_text("nameserver 127.0.0.54\n")
    assert host.current() == []


def test_a_stub_of_which_nothing_is_known_is_asked(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 127.0.0.53\n")
    assert host.current() == ["127.0.0.53"]


def test_a_stub_beside_others_is_left_out(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    assert host.current() == ["192.0.2.1"]


def test_we_never_ask_ourselves(host: Host) -> None:
    host.resolv_conf.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    host.upstreams.configured = ("10.1.0.1", "10.1.0.1:54")
    host.own.add(("10.1.0.1", 53))
    assert host.current() == ["10.1.0.1:54"]
    host.upstreams.configured = ()
    host.own.add(("127.0.0.1", 53))
    assert host.current() == ["192.0.2.1"]
    host.own.clear()
    assert host.current() == ["127.0.0.1", "192.0.2.1"]


def test_a_file_of_any_bytes_breaks_nothing(host: Host) -> None:
    host.resolv_conf.write_bytes(b"\xff\0nameserver\nnameserver \xff\nnameserver 192.0.2.1\r\n")
    assert host.current() == ["192.0.2.1"]
