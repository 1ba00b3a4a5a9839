"""The directory as the registry follows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netd.model.directory import Entry, NetworkEntry
from netd.registry import feed as module
from netd.registry.feed import Entries, Feed, Reader
from tests.unit.registry_lab import DEADLINE_S, Daemon


class Seen(Reader):
    """Writes down what it is told; cannot bear the network `bad`."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.news = asyncio.Event()

    def begin(self) -> None:
        self._tell("begin")

    def add(self, entry: Entry) -> None:
        self._tell(f"add {entry.id}")

    def replace(self, entries: Entries) -> None:
        self._tell(f"replace {' '.join(sorted(name for _, name in entries))}")

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.id == "bad":
            raise RuntimeError("the reader cannot bear it")
        verb = "gone" if new.network is None else "new" if old is None else "other"
        self._tell(f"{verb} {new.id}")

    async def until(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not (self.told and self.told[-1] == text):
                self.news.clear()
                await self.news.wait()

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.news.set()


def network(*subnets: str) -> NetworkEntry:
    return NetworkEntry(subnets=subnets)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path / "netd.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def feed(daemon: Daemon) -> AsyncIterator[Feed]:
    made = Feed(str(daemon.path))
    yield made
    made.close()


async def test_a_table_then_changes(daemon: Daemon, feed: Feed) -> None:
    daemon.put("network", "blue", network())
    seen = Seen()
    feed.readers.append(seen)
    feed.start()
    await seen.until("replace blue")
    assert seen.told == ["begin", "add blue", "replace blue"]
    assert feed.connected
    daemon.put("network", "red", network())
    daemon.put("network", "red", network("10.0.0.0/8"))
    daemon.put("network", "red")
    feed.drain()  # no event loop is needed in between
    assert seen.told[3:] == ["new red", "other red", "gone red"]
    assert feed.revision == daemon.revision
    assert list(feed.entries) == [("network", "blue")]


async def test_a_daemon_that_comes_later_is_found(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "later.sock")
    feed, seen = Feed(str(daemon.path)), Seen()
    feed.readers.append(seen)
    feed.start()
    await asyncio.sleep(0.3)
    await daemon.start()
    await seen.until("replace ")
    await daemon.stop()
    await daemon.start()
    await seen.until("begin")
    await seen.until("replace ")
    assert feed.connections == 2
    feed.close()
    await daemon.stop()


async def test_one_line_that_cannot_be_borne_is_one_line(daemon: Daemon, feed: Feed) -> None:
    seen = Seen()
    feed.readers.append(seen)
    feed.start()
    await seen.until("replace ")
    daemon.put("network", "bad", network())
    daemon.put("network", "blue", network())
    feed.drain()
    assert seen.told[-1] == "new blue"
    assert feed.faults == 1
    assert feed.connected


async def test_lines_that_are_nothing_end_the_stream_and_another_begins(
    daemon: Daemon, feed: Feed
) -> None:
    seen = Seen()
    feed.readers.append(seen)
    feed.start()
    await seen.until("replace ")
    daemon.readers[0].write(b"9\r\n{nonsense\r\n1\r\n\n\r\n")
    await seen.until("begin")
    await seen.until("replace ")
    assert feed.connections == 2


async def test_a_daemon_that_says_nothing_is_left(
    daemon: Daemon, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.1)
    seen = Seen()
    feed.readers.append(seen)
    feed.start()
    await seen.until("replace ")
    await seen.until("begin")
    await seen.until("replace ")
    assert feed.connections >= 2
