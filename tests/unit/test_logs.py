"""Log records as the journal, a terminal and a collector get them, over real sockets and pipes."""

import array
import fcntl
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from netd import logs


class Journal:
    """The journal's end of its socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.path = str(path)

    def read(self) -> dict[str, str]:
        size = array.array("i").itemsize
        data, control, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(size))
        for _, _, descriptors in control:
            (file,) = array.array("i", descriptors)
            seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
            assert seals & fcntl.F_SEAL_WRITE, "journald takes sealed files only"
            data = os.pread(file, 1 << 24, 0)
            os.close(file)
        return parse(data)


def parse(data: bytes) -> dict[str, str]:
    found = {}
    while data:
        head, _, data = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", data)
            value, end, data = (
                data[8 : 8 + length],
                data[8 + length : 9 + length],
                data[9 + length :],
            )
            assert end == b"\n"
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.socket.close()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("netd.test")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    yield log
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def test_the_journal_gets_fields(journal: Journal, log: logging.Logger) -> None:
    log.addHandler(logs.JournalHandler(journal.path))
    log.warning("attached %s", "web", extra={"network": "blue", "endpoint": "e1", "empty": None})
    entry = journal.read()
    assert entry.pop("CODE_LINE").isdigit()
    assert entry == {
        "MESSAGE": "attached web",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "netd",
        "LOGGER": "netd.test",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_the_journal_gets_fields",
        "NETD_NETWORK": "blue",
        "NETD_ENDPOINT": "e1",
    }


def test_a_value_cannot_forge_a_field(journal: Journal, log: logging.Logger) -> None:
    log.addHandler(logs.JournalHandler(journal.path))
    forged = "x\nPRIORITY=0\nFORGED=1"
    log.info("name %s", forged, extra={"container_id": forged, "odd-key\n=": "y", "n" * 99: "z"})
    entry = journal.read()
    assert entry["MESSAGE"] == f"name {forged}"
    assert entry["NETD_CONTAINER_ID"] == forged
    assert entry["PRIORITY"] == "6"
    assert entry["NETD_ODD_KEY__"] == "y"
    assert entry[f"NETD_{'N' * 59}"] == "z"
    assert "FORGED" not in entry


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", "7"), ("INFO", "6"), ("WARNING", "4"), ("ERROR", "3"), ("CRITICAL", "2")],
)
def test_priorities(journal: Journal, log: logging.Logger, level: str, priority: str) -> None:
    log.addHandler(logs.JournalHandler(journal.path))
    log.log(getattr(logging, level), "x")
    assert journal.read()["PRIORITY"] == priority


def test_an_exception_is_part_of_the_message(journal: Journal, log: logging.Logger) -> None:
    log.addHandler(logs.JournalHandler(journal.path))
    try:
        raise RuntimeError("broken\udcff")
    except RuntimeError:
        log.exception("it failed")
    message = journal.read()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("RuntimeError: broken\\udcff")


def test_an_entry_too_big_for_a_datagram_goes_as_a_sealed_file(
    journal: Journal, log: logging.Logger
) -> None:
    log.addHandler(logs.JournalHandler(journal.path))
    log.info("x" * 1_000_000, extra={"network": "blue"})
    entry = journal.read()
    assert entry["MESSAGE"] == "x" * 1_000_000
    assert entry["NETD_NETWORK"] == "blue"


def test_a_full_journal_is_not_waited_for(journal: Journal, log: logging.Logger) -> None:
    handler = logs.JournalHandler(journal.path)
    log.addHandler(handler)
    sent = 0
    while not handler.dropped:
        log.info("%d", sent)
        sent += 1
    log.info("one more")
    assert handler.dropped == 2
    for number in range(sent - 1):
        assert journal.read()["MESSAGE"] == str(number)
    log.info("again")
    assert journal.read()["MESSAGE"].startswith("2 log records were dropped")
    assert journal.read()["MESSAGE"] == "again"
    assert handler.dropped == 2


def test_without_a_journal_records_are_counted(tmp_path: Path, log: logging.Logger) -> None:
    handler = logs.JournalHandler(str(tmp_path / "nobody"))
    log.addHandler(handler)
    log.info("x")
    log.info("x" * 1_000_000)
    assert handler.dropped == 2


# Lines on standard error


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def lines_to(pipe: tuple[int, int], formatter: logging.Formatter) -> logs.StderrHandler:
    handler = logs.StderrHandler(pipe[1])
    handler.setFormatter(formatter)
    return handler


def test_text(pipe: tuple[int, int], log: logging.Logger) -> None:
    log.addHandler(lines_to(pipe, logs.TextFormatter()))
    log.info(
        "attached %s",
        "a\nb\x1b[31m",
        extra={"network": "blue", "name_": 'x "y"\n', "n": 3, "no": ""},
    )
    line = os.read(pipe[0], 4096).decode()
    assert line[:2] == "20"
    assert line[23:] == ' INFO    attached a\\nb\\x1b[31m network=blue name_="x \\"y\\"\\n" n=3\n'


def test_json_lines(pipe: tuple[int, int], log: logging.Logger) -> None:
    log.addHandler(lines_to(pipe, logs.JsonFormatter()))
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception(
            "failed\nhere", extra={"network": "blue", "level": "forged", "at": Path("/x")}
        )
    text = os.read(pipe[0], 4096).decode()
    assert text.count("\n") == 1
    line = json.loads(text)
    assert line.pop("time").endswith("Z")
    assert line.pop("traceback").endswith("ValueError: bad")
    assert line == {
        "level": "error",
        "logger": "netd.test",
        "message": "failed\nhere",
        "network": "blue",
        "at": "/x",
    }


def test_a_pipe_that_nobody_reads_does_not_block(
    pipe: tuple[int, int], log: logging.Logger
) -> None:
    handler = lines_to(pipe, logs.TextFormatter())
    log.addHandler(handler)
    for _ in range(40):
        log.info("x" * 10_000)  # a pipe takes 64 KiB
    assert 0 < handler.dropped < 40
    assert os.get_blocking(pipe[1])
    while len(os.read(pipe[0], 1 << 16)) == 1 << 16:
        pass
    log.info("again")
    tail = os.read(pipe[0], 1 << 16).decode()
    assert f"{handler.dropped} log records were dropped" in tail
    assert tail.endswith("again\n")


# The choice


def test_the_journal_is_recognised_by_its_stream(pipe: tuple[int, int]) -> None:
    found = os.fstat(pipe[1])
    stream = f"{found.st_dev}:{found.st_ino}"
    assert logs.stderr_is_journal({"JOURNAL_STREAM": stream}, pipe[1])
    assert not logs.stderr_is_journal({"JOURNAL_STREAM": "1:2"}, pipe[1])
    assert not logs.stderr_is_journal({}, pipe[1])
    assert not logs.stderr_is_journal({"JOURNAL_STREAM": stream}, 1_000_000)


def test_configure_replaces_what_it_has_set_up() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        first = logs.configure("debug", "journal")
        second = logs.configure("error", "json")
        third = logs.configure("warning", "auto")
        assert [handler for handler in root.handlers if handler not in before] == [third]
        assert root.level == logging.WARNING
        assert isinstance(first, logs.JournalHandler)
        assert isinstance(second.formatter, logs.JsonFormatter)
        assert isinstance(third.formatter, logs.TextFormatter)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
