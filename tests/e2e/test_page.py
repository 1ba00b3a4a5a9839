"""The page to look at, in a browser and without one."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.chromium import Chromium, Tab
from tests.e2e.lab import Host, Namespace, await_true

URL = "http://127.0.0.1:8501/"
LIVE = 'document.getElementById("live").textContent === "Live."'
SCHEMES = ("light", "dark")
WIDTHS = (360, 1440)


def ask(host: Host, path: str, *options: str) -> str:
    """By the Unix socket, with curl."""
    socket = str(host.folder / "page.sock")
    return host.run(
        "curl", "-s", "-m", "5", "--unix-socket", socket, *options, f"http://netd{path}"
    )


def await_page(host: Host) -> None:
    await_true(lambda: "netd on host-1" in ask_or_nothing(host), 40)


def ask_or_nothing(host: Host) -> str:
    socket = str(host.folder / "page.sock")
    return host.run("curl", "-s", "-m", "5", "--unix-socket", socket, "http://netd/", check=False)


def start_host(stack: ExitStack, settings: str) -> Host:
    """A host with a page, in a folder that the registry's user can reach, unlike pytest's."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netd-page-")))
    folder.chmod(0o755)
    host = Host(stack, folder)
    host.registry = True
    config = folder / "netd.toml"
    config.write_text(settings)
    host.start_daemon("--config", str(config))
    return host


@pytest.fixture(scope="module")
def furnished() -> Iterator[Host]:
    """A host with networks, containers and services, and with a page on TCP, too."""
    with ExitStack() as stack:
        settings = '[page]\naddress = "127.0.0.1:8501"\n[node]\ntags = { rack = "r1" }\n'
        host = start_host(stack, settings)
        furnish(host)
        await_page(host)
        yield host


def furnish(host: Host) -> None:
    host.client.create_network(
        name="blue", driver="bridge", subnets=["10.20.0.0/24", "fd20::/64"], labels={"team": "a"}
    )
    host.client.create_network(
        name="back", driver="bridge", subnets=["10.30.0.0/24"], internal=True
    )
    for number in range(3):
        ports = [{"host_port": 8080, "container_port": 80}] if number == 0 else []
        container = host.container()
        end = host.attach("blue", container, name=f"web-{number}", aliases=["www"], ports=ports)
        checks = [{"kind": "ttl", "id": "beat", "ttl_s": 600, "status": "passing"}]
        host.client.register(
            f"web-{number}", name="web", port=80, endpoint=end["id"], checks=checks, tags=["v1"]
        )
    host.attach("back", host.container(), name="db")
    host.client.register("db-1", name="db", address="192.0.2.77", port=5432)
    for status in ("critical", "passing", "warning"):
        host.client.report("web-1", "beat", status, "slow: 812 ms")
    host.client.report("web-2", "beat", "critical", "connection refused")


@pytest.fixture(scope="module")
def browser(furnished: Host) -> Iterator[Chromium]:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: Ubuntu has it as a snap only")
    with ExitStack() as stack:
        yield Chromium(stack, furnished)


@pytest.fixture
def tab(browser: Chromium) -> Tab:
    return browser.tab()


def await_live(tab: Tab) -> None:
    """Return when the page says that it is."""
    tab.tell(
        f"""new Promise((kept) => {{
          const look = () => {LIVE} && kept(true);
          new MutationObserver(look).observe(document.getElementById("live"),
            {{ childList: true, characterData: true, subtree: true }});
          look();
        }})"""
    )


def expect(tab: Tab, section: str, words: str) -> None:
    """Have the page note when a section has these words; `when_seen` tells."""
    tab.tell(
        f"""window.seen = new Promise((kept) => {{
          const look = () => document.getElementById({json.dumps(section)}).textContent
            .includes({json.dumps(words)}) && kept(Date.now());
          new MutationObserver(look).observe(document.querySelector("main"),
            {{ childList: true, subtree: true }});
          look();
        }}), true"""
    )


def when_seen(tab: Tab) -> float:
    """Unix time in seconds at which what was expected was there."""
    return float(tab.tell("window.seen")) / 1000


def words_of(tab: Tab, section: str) -> str:
    found: str = tab.tell(f'document.getElementById("{section}").innerText')
    return found


def test_the_page_shows_what_there_is(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    assert tab.tell("document.title") == "netd on host-1"
    assert "host-1" in words_of(tab, "members")
    assert "rack=r1" in words_of(tab, "members")
    networks = words_of(tab, "networks")
    assert all(word in networks for word in ("blue", "10.20.0.0/24", "fd20::/64", "internal"))
    endpoints = words_of(tab, "endpoints")
    assert all(word in endpoints for word in ("web-0", "db", "10.30.0.2", "8080 → 80/tcp", "www"))
    services = words_of(tab, "services")
    assert all(word in services for word in ("db-1", "192.0.2.77:5432", "slow: 812 ms", "v1"))
    history = 'document.querySelector("#services .bars[aria-label*=warning]")'
    assert tab.tell(f"{history}.querySelectorAll('path').length") == 3
    assert tab.tell(f"{history}.getAttribute('width')") == str(4 * 7)
    assert "passing since" in tab.tell(f"{history}.getAttribute('aria-label')")
    drawn = tab.tell("[...document.querySelectorAll('.picture text')].map((e) => e.textContent)")
    assert {"host-1", "blue", "back", "web-0", "db"} <= set(drawn)
    assert "has what it should have" in words_of(tab, "drift")
    assert tab.complaints() == []


def test_what_happens_is_there_within_a_second(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    container = furnished.container()
    for section, words, happen in (
        ("endpoints", "newcomer", lambda: furnished.attach("blue", container, name="newcomer")),
        ("topology", "newcomer", lambda: None),
        (
            "networks",
            "green",
            lambda: furnished.client.create_network(name="green", driver="bridge"),
        ),
        (
            "services",
            "on fire",
            lambda: furnished.client.report("web-0", "beat", "critical", "on fire"),
        ),
    ):
        expect(tab, section, words)
        happen()
        done_s = time.time()
        assert when_seen(tab) - done_s < 1.0, section
    furnished.client.report("web-0", "beat", "passing", "")
    furnished.client.detach_container(f"c{container.pid}")
    furnished.client.delete_network("green")
    assert tab.complaints() == []


def test_what_a_reader_has_opened_stays_open(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    tab.tell("document.querySelector(\"#services details[data-key='web-1/beat']\").open = true")
    tab.tell('document.querySelector("#services .scroll").focus()')
    expect(tab, "services", "still slow")
    furnished.client.report("web-1", "beat", "critical", "still slow")
    when_seen(tab)
    assert tab.tell("document.querySelector(\"#services details[data-key='web-1/beat']\").open")
    assert tab.tell('document.activeElement === document.querySelector("#services .scroll")')
    furnished.client.report("web-1", "beat", "warning", "slow: 812 ms")


def test_without_scripts_all_is_there_and_it_comes_again(furnished: Host, tab: Tab) -> None:
    tab.forbid_scripts()
    tab.open(URL)
    text = _text_of(tab)
    assert all(
        word in text for word in ("web-0", "db-1", "blue", "This page comes again each 10 s")
    )
    assert {"web-0", "web", "db", "blue"} <= set(_text_of(tab, "rowheader").split("\n"))
    tab.open(URL + "?q=db-1")
    found = _text_of(tab, "rowheader").split("\n")
    assert "db" in found
    assert not {"web", "web-0", "blue", "host-1"} & set(found)
    tab.open(URL)
    tab.await_load()  # of the next one, which the page asks for


def _text_of(tab: Tab, role: str = "") -> str:
    """What a reader gets where no script runs: the words of the accessibility tree, those of one
    role or all.
    """
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    return "\n".join(
        str(node["name"]["value"])
        for node in nodes
        if node.get("name", {}).get("value") and role in ("", node["role"]["value"])
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_can_be_read(furnished: Host, tab: Tab, tmp_path: Path, scheme: str, width: int) -> None:
    tab.resize(width)
    tab.prefer(color_scheme=scheme, reduced_motion="reduce")
    tab.open(URL)
    await_live(tab)
    file = tab.picture(tmp_path / f"page-{scheme}-{width}.png")
    assert file.stat().st_size > 10_000
    assert tab.tell("document.documentElement.scrollWidth") <= width
    assert tab.tell("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    faint = tab.tell(_CONTRAST)
    assert faint == []
    assert tab.complaints() == []


# Words whose contrast to what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
_CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const part = (value) =>
    (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *:not(svg, svg *)")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!says || element.closest("noscript") || element.className === "skip") continue;
    const pair = [parse(getComputedStyle(element).color), behind(element)].map(light);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) faint.push(`${element.textContent.slice(0, 40)}: ${contrast}`);
  }
  return faint;
})()
"""


def test_it_can_be_used_with_the_keyboard(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    reached: list[Any] = []
    for _ in range(12):
        for kind in ("rawKeyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        reached.append(tab.tell("document.activeElement.textContent || document.activeElement.id"))
    assert reached[0] == "Skip to the sections"
    assert reached[1:3] == ["q", "Find"]
    assert "Topology" in reached


def test_the_socket_is_for_those_who_may_read(furnished: Host) -> None:
    socket = furnished.folder / "page.sock"
    mode = socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o007 == 0
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    done = subprocess.run(
        [*command, "curl", "-s", "-m", "5", "--unix-socket", str(socket), "http://netd/"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == b""
    assert os.geteuid() == 0
    assert "netd on host-1" in ask(furnished, "/")


def test_a_container_does_not_get_it(stack: ExitStack) -> None:
    """Also where the page is told to be at an address that containers reach."""
    host = start_host(stack, f'[page]\naddress = "{Host.ADDRESS}:8501"\n')
    host.client.create_network(name="blue", driver="bridge", subnets=["10.20.0.0/24"])
    container = host.container()
    host.attach("blue", container, name="web")
    await_page(host)
    url = f"http://{Host.ADDRESS}:8501/"
    own = host.run("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert own == "200"
    assert _code(container, url) == "403"
    assert _code(host.outside, url) == "403"


def _code(space: Namespace, url: str) -> str:
    return space.run("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url)


def test_a_registry_that_starts_anew_is_followed(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    before = tab.tell("document.documentElement.dataset.run")
    pid = json.loads((furnished.folder / "state/registry.pid").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    tab.await_load()  # the page loads itself again: the script may be another
    await_live(tab)
    assert tab.tell("document.documentElement.dataset.run") != before
    assert "web-0" in words_of(tab, "endpoints")
    await_page(furnished)  # by the Unix socket, which was made anew


def test_while_netd_is_away_it_says_so(furnished: Host, tab: Tab) -> None:
    tab.open(URL)
    await_live(tab)
    expect(tab, "overview", "does not answer")
    furnished.stop_daemon()
    when_seen(tab)
    assert "web-0" in words_of(tab, "endpoints")
    furnished.start_daemon("--config", str(furnished.folder / "netd.toml"))

    def is_well() -> bool:
        # A machine that takes long to start netd has another registry by then, and the page is
        # in the middle of loading itself again.
        with suppress(AssertionError):
            return "does not answer" not in words_of(tab, "overview") and bool(tab.tell(LIVE))
        return False

    await_true(is_well, 40)
    assert "db-1" in words_of(tab, "services")
