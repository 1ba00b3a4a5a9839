"""The durable store, on real files. Crashes are real ones: child processes that are killed."""

import asyncio
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from netd.engine.interfaces import Change, Snapshot
from netd.model.endpoint import (
    AttachRequest,
    Bandwidth,
    Endpoint,
    EndpointRecord,
    Lease,
    PortMapping,
    Sandbox,
)
from netd.model.errors import Conflict, Unavailable
from netd.model.network import Network
from netd.model.service import Check, CheckSpec, Service, ServiceRecord, ServiceSpec
from netd.store import bodies, schema
from netd.store.database import FILE_NAME
from netd.store.sqlite import SqliteStore

REPOSITORY = Path(__file__).parents[2]


def network(identifier: str = "n1", name: str = "blue") -> Network:
    return Network(id=identifier, name=name, driver="bridge", subnets=("10.20.0.0/24",))


def record(identifier: str = "e1") -> EndpointRecord:
    request = AttachRequest(
        container_id="c1",
        netns="/run/netns/x",
        ports=(PortMapping(host_port=80, container_port=8080),),
        bandwidth=Bandwidth(ingress_bps=1_000_000),
    )
    endpoint = Endpoint(
        id=identifier,
        network="blue",
        network_id="n1",
        container_id="c1",
        name="web",
        node="host-1",
        ifname="eth0",
        ports=request.ports,
        bandwidth=request.bandwidth,
    )
    return EndpointRecord(
        endpoint=endpoint, request=request, sandbox=Sandbox(path="/run/netns/x", inode=4026532000)
    )


def instance(identifier: str, port: int = 80) -> ServiceRecord:
    check = CheckSpec(kind="ttl", id="beat", ttl_s=5)
    spec = ServiceSpec(name="web", port=port, pid=4711, checks=(check,))
    result = Check(id="beat", name="beat", kind="ttl", status="warning", spec=check)
    service = Service(
        id=identifier, name="web", node="host-1", address="192.0.2.1", port=port, checks=(result,)
    )
    return ServiceRecord(service=service, spec=spec, pid_start_ticks=9, boot_id="b", labelled=True)


def lease(address: str = "10.20.0.2", released_s: float | None = None) -> Lease:
    return Lease(
        network_id="n1", address=address, name="web", endpoint_id="e1", released_s=released_s
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path)
    yield store
    await store.close()


async def reopened(directory: Path) -> Snapshot:
    store = await SqliteStore.open(directory)
    try:
        return await store.load()
    finally:
        await store.close()


async def test_what_is_committed_is_there_after_reopening(
    store: SqliteStore, tmp_path: Path
) -> None:
    full = Snapshot(
        networks=(network(),),
        endpoints=(record("e1"), record("e2")),
        leases=(lease("10.20.0.2"), lease("10.20.0.3", released_s=1234.5)),
        services=(instance("web-1"), instance("web-2")),
        facts={"boot_id": "abc", "text": "snow ☃ and \n newline"},
    )
    await store.commit(
        Change(
            put_services=full.services,
            put_networks=full.networks,
            put_endpoints=full.endpoints,
            put_leases=full.leases,
            put_facts=full.facts,
        )
    )
    assert await store.load() == full
    await store.close()
    assert await reopened(tmp_path) == full


async def test_delete_and_replace(store: SqliteStore) -> None:
    await store.commit(
        Change(
            put_networks=(network(),),
            put_endpoints=(record("e1"), record("e2")),
            put_leases=(lease("10.20.0.2"), lease("10.20.0.3")),
            put_facts={"boot_id": "abc"},
        )
    )
    changed = msgspec.structs.replace(record("e2"), sandbox=None)
    successor = network("n2", "blue")
    await store.commit(
        Change(
            delete_networks=("n1",),
            put_networks=(successor,),
            delete_endpoints=("e1", "unknown"),
            put_endpoints=(changed,),
            delete_leases=(("n1", "10.20.0.2"), ("other", "10.20.0.3")),
            put_facts={"boot_id": "def"},
        )
    )
    assert await store.load() == Snapshot(
        networks=(successor,),
        endpoints=(changed,),
        leases=(lease("10.20.0.3"),),
        facts={"boot_id": "def"},
    )


async def test_instances_are_replaced_and_deleted(store: SqliteStore) -> None:
    await store.commit(Change(put_services=(instance("web-1"), instance("web-2"))))
    changed = instance("web-2", port=81)
    await store.commit(Change(delete_services=("web-1", "unknown"), put_services=(changed,)))
    assert (await store.load()).services == (changed,)


async def test_a_failing_change_is_undone_whole(store: SqliteStore) -> None:
    await store.commit(Change(put_networks=(network("n1", "blue"),)))
    before = await store.load()
    with pytest.raises(Conflict):
        await store.commit(
            Change(
                put_endpoints=(record(),),
                put_leases=(lease(),),
                put_networks=(network("n2", "green"), network("n3", "blue")),
            )
        )
    assert await store.load() == before


async def test_of_commits_made_together_each_fails_alone(store: SqliteStore) -> None:
    changes = [Change(put_networks=(network(f"n{i}", f"net-{i}"),)) for i in range(8)]
    changes[5] = Change(put_networks=(network("n5", "net-2"),), put_facts={"fifth": "here"})
    results = await asyncio.gather(
        *(store.commit(change) for change in changes), return_exceptions=True
    )
    assert [i for i, result in enumerate(results) if isinstance(result, Conflict)] == [5]
    assert [result for result in results if result is not None] == [results[5]]
    snapshot = await store.load()
    assert [item.id for item in snapshot.networks] == ["n0", "n1", "n2", "n3", "n4", "n6", "n7"]
    assert snapshot.facts == {}


async def test_commits_that_wait_share_a_transaction(store: SqliteStore, tmp_path: Path) -> None:
    await store.commit(Change(put_facts={"n": "0"}))
    with sqlite3.connect(tmp_path / FILE_NAME) as observer:
        query = "PRAGMA data_version"
        seen = {observer.execute(query).fetchone()}
        pending = [
            asyncio.ensure_future(store.commit(Change(put_facts={"n": str(i)}))) for i in range(50)
        ]
        while not all(commit.done() for commit in pending):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            pending = [commit for commit in pending if not commit.done()] or pending[:1]
            seen.add(observer.execute(query).fetchone())
    observer.close()
    assert len(seen) <= 3  # at the start, after the first commit, after the other 49
    assert (await store.load()).facts == {"n": "49"}


async def test_a_cancelled_caller_does_not_harm_the_others(store: SqliteStore) -> None:
    commits = [
        asyncio.ensure_future(store.commit(Change(put_facts={str(i): "x"}))) for i in range(3)
    ]
    await asyncio.sleep(0)
    commits[1].cancel()
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    assert {"0", "2"} <= (await store.load()).facts.keys()


async def test_close_finishes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    commits = [
        asyncio.ensure_future(store.commit(Change(put_facts={str(i): "x"}))) for i in range(5)
    ]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    await asyncio.gather(*commits)
    with pytest.raises(Unavailable, match="closed"):
        await store.commit(Change(put_facts={"late": "x"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", FILE_NAME]
    assert (await reopened(tmp_path)).facts == {str(i): "x" for i in range(5)}


async def test_the_log_is_brought_into_the_file_in_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.store.sqlite.IDLE_S", 0.01)
    store = await SqliteStore.open(tmp_path)
    before = (tmp_path / FILE_NAME).stat().st_size
    await store.commit(Change(put_endpoints=tuple(record(f"e{i}") for i in range(50))))
    assert (tmp_path / FILE_NAME).stat().st_size == before
    async with asyncio.timeout(5):
        while (tmp_path / FILE_NAME).stat().st_size == before:
            await asyncio.sleep(0.01)
    await store.close()


async def test_the_log_is_bounded_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.store.sqlite.LOG_COMMITS_MAX", 20)
    store = await SqliteStore.open(tmp_path)
    for i in range(200):
        await store.commit(Change(put_endpoints=(record(f"e{i % 10}"),)))
    size = (tmp_path / f"{FILE_NAME}-wal").stat().st_size
    await store.close()
    assert size < 21 * 5 * 4096  # 200 commits of two to four pages each would be far more


async def test_modes(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    store = await SqliteStore.open(directory)
    await store.commit(Change(put_facts={"a": "b"}))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    await store.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(
        ("lock", FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"), 0o600
    )


async def test_a_second_netd_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"in use by another netd \(process \d+\).*--state-dir"):
        await SqliteStore.open(tmp_path)
    await store.commit(Change(put_facts={"still": "works"}))
    await store.close()
    assert (await reopened(tmp_path)).facts == {"still": "works"}


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=f"{tmp_path}/file/state.*Not a directory"):
        await SqliteStore.open(tmp_path / "file" / "state")


# Damage, other versions


async def filled(directory: Path) -> Path:
    store = await SqliteStore.open(directory)
    await store.commit(Change(put_endpoints=tuple(record(f"e{i}") for i in range(100))))
    await store.close()
    return directory / FILE_NAME


@pytest.mark.parametrize("at", [0, 4096])
async def test_a_damaged_file_is_named_and_kept(tmp_path: Path, at: int) -> None:
    path = await filled(tmp_path)
    body = bytearray(path.read_bytes())
    body[at : at + 4096] = b"\xa5" * 4096
    path.write_bytes(body)
    with pytest.raises(Unavailable, match=f"{path} is damaged.*mv {path}"):
        await SqliteStore.open(tmp_path)
    assert path.read_bytes() == bytes(body)


async def test_a_state_of_a_newer_netd_is_refused_and_kept(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("UPDATE meta SET value = '7.1.0' WHERE key = 'version'")
    connection.close()
    with pytest.raises(Unavailable, match=r"written by netd 7\.1\.0 \(schema 99\)"):
        await SqliteStore.open(tmp_path)


def test_an_empty_file_becomes_todays_and_records_who_wrote_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, "1.2.3")
    version = connection.execute("PRAGMA user_version").fetchone()
    assert version == (len(schema.MIGRATIONS),)
    assert connection.execute("SELECT * FROM meta").fetchall() == [("version", "1.2.3")]
    connection.close()


def test_each_migration_is_whole_or_not_at_all() -> None:
    def add_column(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE facts ADD COLUMN since_s REAL")

    def fail_half_way(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE leases")
        connection.execute("SELECT * FROM nowhere")

    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, "1.0.0")
    connection.execute("INSERT INTO facts VALUES('boot_id', 'abc')")
    steps = (*schema.MIGRATIONS, add_column, fail_half_way)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        schema.migrate(connection, "2.0.0", steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(steps) - 1,)
    assert connection.execute("SELECT * FROM facts").fetchall() == [("boot_id", "abc", None)]
    assert connection.execute("SELECT * FROM leases").fetchall() == []
    connection.close()


def test_fields_of_a_newer_netd_are_passed_over_at_any_depth() -> None:
    body = msgspec.json.decode(bodies.encode(record()))
    body["new"] = 1
    body["request"]["new"] = {"x": 1}
    body["request"]["ports"][0]["new"] = "y"
    body["request"]["bandwidth"]["new"] = None
    body["endpoint"]["ports"][0]["new"] = "y"
    body["sandbox"]["new"] = True
    assert bodies.decode(msgspec.json.encode(body), EndpointRecord) == record()


async def test_a_value_of_a_newer_netd_is_an_error_not_a_guess(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(Change(put_networks=(network(),)))
    await store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE networks SET body = replace(body, 'bridge', 'hologram')")
    connection.close()
    with pytest.raises(Unavailable, match=r"networks record n1 cannot be understood.*hologram"):
        await reopened(tmp_path)


# Crashes and full disks

CHILD = """
import asyncio, sys
from pathlib import Path
from netd.engine.interfaces import Change
from netd.model.errors import Unavailable
from netd.store.sqlite import SqliteStore

async def put(store, i, size):
    await store.commit(Change(put_facts={f"{i}/{half}": "x" * size for half in "ab"}))
"""

WRITE_FOR_EVER = """
async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    async def writer(k):
        for i in range(k, 10**9, 4):
            await put(store, i, 300)
            print(i, flush=True)
    await asyncio.gather(*map(writer, range(4)))
asyncio.run(main())
"""

FILL_THEN_FREE = """
async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    done = 0
    try:
        while True:
            await put(store, done, 20_000)
            done += 1
    except Unavailable as error:
        print(error.detail)
    free()
    assert len((await store.load()).facts) == 2 * done
    await put(store, done, 20_000)
    assert len((await store.load()).facts) == 2 * done + 2
    await store.close()
    store = await SqliteStore.open(Path(sys.argv[1]))
    assert len((await store.load()).facts) == 2 * done + 2
    await store.close()
    print("usable")
"""

ON_A_SMALL_DISK = """
import subprocess
mount = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], check=True)
ballast = mount / "ballast"
ballast.write_bytes(bytes(1 << 20))
free = ballast.unlink
asyncio.run(main())
"""

UNDER_A_SIZE_LIMIT = """
import resource
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
free = lambda: limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
limit(1 << 20)
asyncio.run(main())
"""


@pytest.mark.parametrize("commits", [1, 40, 400])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, commits: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD + WRITE_FOR_EVER, str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(commits)]
    child.kill()
    acknowledged += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    complete = {int(line) for line in acknowledged if line.endswith("\n")}
    assert len(complete) >= commits
    facts = (await reopened(tmp_path)).facts
    assert {f"{i}/{half}" for i in complete for half in "ab"} <= facts.keys()
    halves = [{key.split("/")[0] for key in facts if key.endswith(half)} for half in "ab"]
    assert halves[0] == halves[1]


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    prefix = [str(unshare), "--user", "--map-root-user", "--mount"]
    if (
        unshare is None
        or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no user and mount namespaces to make a small disk in")
    child = subprocess.run(
        [*prefix, sys.executable, "-c", CHILD + FILL_THEN_FREE + ON_A_SMALL_DISK, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    said, last = child.stdout.splitlines()
    assert "the disk is full: free some space" in said
    assert "nothing was changed" in said
    assert last == "usable"


def test_a_write_error_is_said_and_survived(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    assert hard == resource.RLIM_INFINITY or hard > 1 << 24
    child = subprocess.run(
        [sys.executable, "-c", CHILD + FILL_THEN_FREE + UNDER_A_SIZE_LIMIT, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert "the disk reports an error" in child.stdout
    assert child.stdout.endswith("usable\n")
