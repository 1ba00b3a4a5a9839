"""The reference pages name all there is: settings with their defaults, calls of the API."""

import re
from pathlib import Path

import msgspec

from netd.api.problems import STATUS_OF_CODE
from netd.api.routes import ROUTES
from netd.daemon.config import effective
from netd.daemon.settings import NEEDS_RESTART, Config

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"\| `([a-z0-9_]+\.[a-z0-9_]+)` \| (.*?) \| .* \| (start|reload) \|")
_SETTING = re.compile(r"(\w+) = (.*)  # default")
_CALL = re.compile(r"\| `((?:GET|POST|PUT|PATCH|DELETE) /\S*)` \|")


def test_configuration_page_has_each_key_with_its_default() -> None:
    rows = dict(_rows())
    wanted = {}
    table = ""
    for line in effective(msgspec.convert({}, Config)).splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        elif found := _SETTING.fullmatch(line):
            key = f"{table}.{found[1]}"
            restart = "start" if key in NEEDS_RESTART else "reload"
            wanted[key] = (f"`{found[2]}`", restart)
    wanted["node.name"] = ("first label of the host's name", "start")
    assert rows == wanted


def _rows() -> list[tuple[str, tuple[str, str]]]:
    page = (ROOT / "CONFIGURATION.md").read_text()
    return [(row[1], (row[2], row[3])) for row in _ROW.finditer(page)]


def test_api_page_has_each_call() -> None:
    calls = _CALL.findall((ROOT / "API.md").read_text())
    assert sorted(calls) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def test_api_page_has_each_error() -> None:
    page = (ROOT / "API.md").read_text()
    rows = dict(re.findall(r"\| `([a-z-]+)` \| (\d{3})", page))
    assert rows == {code: str(status) for code, status in STATUS_OF_CODE.items()}


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", page.read_text()):
            file, anchor = ROOT / target[0] if target[0] else page, target[1]
            if not file.exists() or (anchor and anchor[1:] not in _anchors(file)):
                broken.append(f"{page.name}: {''.join(target)}")
    assert not broken


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
