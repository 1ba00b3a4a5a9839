"""Files of the page that do not change while the process lives: style, script, icon."""

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = Path(__file__).parent
_KINDS: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """`name` has a digest of what is in it, so it can be kept for ever."""

    name: str
    kind: str
    content: bytes
    etag: str

    @property
    def href(self) -> str:
        return f"/assets/{self.name}"


class Assets(NamedTuple):
    style: Asset
    script: Asset
    icon: Asset

    def find(self, name: str) -> Asset | None:
        return next((asset for asset in self if asset.name == name), None)


def _load(name: str) -> Asset:
    content = (_FOLDER / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    stem, _, suffix = name.rpartition(".")
    return Asset(f"{stem}.{digest}.{suffix}", _KINDS[name], content, f'"{digest}"')


# Read with the module: later the process may be a user that cannot read the folder.
ASSETS: Final = Assets(*map(_load, _KINDS))
