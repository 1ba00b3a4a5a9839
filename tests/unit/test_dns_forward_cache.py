"""What is kept of others' answers, and for how long."""

from netd.registry.dns import forward_cache
from netd.registry.dns.forward_answer import Foreign
from netd.registry.dns.forward_cache import BYTES_MAX, Cache


def foreign(keep_s: int = 60, size: int = 10) -> Foreign:
    return Foreign(rcode=0, body=bytes(size), counts=(1, 0, 0), keep_s=keep_s)


def test_it_is_kept_as_long_as_it_says() -> None:
    cache = Cache(10)
    kept = foreign(keep_s=60)
    cache.put(b"a", kept, 100.0)
    assert cache.get(b"a", 100.0) == (kept, 0)
    assert cache.get(b"a", 101.9) == (kept, 1)
    assert cache.get(b"a", 159.9) == (kept, 59)
    assert cache.get(b"b", 100.0) is None
    assert cache.get(b"a", 160.0) is None
    assert len(cache) == 0
    assert cache.size == 0


def test_what_may_not_be_kept_takes_the_place_of_what_was() -> None:
    cache = Cache(10)
    cache.put(b"a", foreign(), 100.0)
    cache.put(b"a", foreign(keep_s=0), 101.0)
    assert cache.get(b"a", 101.0) is None
    assert cache.size == 0


def test_those_not_asked_for_go_first() -> None:
    cache = Cache(3)
    for key in (b"a", b"b", b"c"):
        cache.put(key, foreign(), 100.0)
    assert cache.get(b"a", 101.0) is not None
    cache.put(b"d", foreign(), 102.0)
    assert [cache.get(key, 103.0) is not None for key in (b"a", b"b", b"c", b"d")] == [
        True, False, True, True,
    ]  # fmt: skip
    assert len(cache) == 3


def test_bytes_have_a_bound() -> None:
    cache = Cache(1_000_000)
    for number in range(10_000):
        cache.put(b"%d" % number, foreign(size=10_000), 100.0)
    assert cache.size <= BYTES_MAX
    assert BYTES_MAX // 12_000 < len(cache) < BYTES_MAX // 10_000
    assert cache.get(b"9999", 100.0) is not None
    assert cache.get(b"0", 100.0) is None


def test_one_that_is_very_long_is_not_kept() -> None:
    cache = Cache(10)
    cache.put(b"a", foreign(size=forward_cache._ENTRY_BYTES_MAX + 1), 100.0)
    assert len(cache) == 0


def test_no_entries_are_none() -> None:
    cache = Cache(0)
    cache.put(b"a", foreign(), 100.0)
    assert len(cache) == 0


def test_a_smaller_bound_holds_from_the_next_answer_on() -> None:
    cache = Cache(100)
    for number in range(100):
        cache.put(b"%d" % number, foreign(), 100.0)
    cache.entries_max = 10
    cache.put(b"new", foreign(), 100.0)
    assert len(cache) == 10
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)
