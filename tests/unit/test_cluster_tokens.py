"""Join tokens: their text, and the issuer's book, which never lets one be used too often."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.cluster import files, tokens
from netd.cluster.tokens import JoinToken, TokenBook
from netd.model.errors import Exhausted, Forbidden, Invalid, NetdError, Unavailable
from netd.worker import Worker

TOKEN = JoinToken(
    cluster_id=b"c" * 8,
    authority_public_key=b"a" * 32,
    secret=b"s" * 32,
    expires_s=1_800_000_000,
    addresses=(("192.0.2.1", 7940), ("2001:db8::1", 7941)),
)


def test_a_token_is_one_word_that_says_everything() -> None:
    text = TOKEN.text()
    assert text.startswith("netd1.")
    assert text.isascii()
    assert not set(text) & set(" \n\t'\"$\\")
    assert JoinToken.parse(text) == TOKEN
    assert JoinToken.parse(f"\n {text} \n") == TOKEN


@given(st.text() | st.text(alphabet="ABCabc019-_=").map(lambda body: f"netd1.{body}"))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        JoinToken.parse(text)
    assert refused.value.field == "token"


def test_no_part_of_a_token_is_one() -> None:
    text = TOKEN.text()
    for length in range(len(text)):
        with pytest.raises(Invalid):
            JoinToken.parse(text[:length])
    with pytest.raises(Invalid):
        JoinToken.parse(text + "A" * 3000)


def test_a_token_is_good_for_its_uses(tmp_path: Path) -> None:
    book = TokenBook(tmp_path)
    secret, _ = book.issue(60, 2)
    with pytest.raises(Forbidden, match="does not know"):
        book.redeem(os.urandom(32))
    book.redeem(secret)
    book.redeem(secret)
    with pytest.raises(Forbidden, match="used up"):
        book.redeem(secret)


def test_a_token_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = TokenBook(tmp_path)
    secret, expires_s = book.issue(60, 1)
    assert expires_s == pytest.approx(time.time() + 60, abs=30)
    monkeypatch.setattr(time, "time", lambda: expires_s + 1)
    with pytest.raises(Forbidden, match="expired"):
        book.redeem(secret)


def test_the_book_survives_a_restart_and_holds_no_secret(tmp_path: Path) -> None:
    book = TokenBook(tmp_path)
    secret, _ = book.issue(60, 2)
    book.redeem(secret)
    path = tmp_path / "tokens.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret.hex() not in path.read_text()
    book = TokenBook(tmp_path)
    book.redeem(secret)
    with pytest.raises(Forbidden, match="used up"):
        TokenBook(tmp_path).redeem(secret)


def test_a_use_that_cannot_be_counted_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = TokenBook(tmp_path)
    secret, _ = book.issue(60, 1)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        with pytest.raises(Unavailable, match="No space left"):
            book.redeem(secret)
        with pytest.raises(Unavailable, match="no token was given"):
            book.issue(60, 1)
    book.redeem(secret)


async def test_redeemed_at_once_by_many_it_is_good_for_its_uses_exactly(tmp_path: Path) -> None:
    worker = Worker("book")
    book = TokenBook(tmp_path)
    secret, _ = book.issue(60, 3)
    calls = [worker.call(partial(_succeeds, book, secret)) for _ in range(20)]
    assert sum([await call for call in calls]) == 3
    worker.close()


def test_issuers_on_one_thread_never_lose_a_token(tmp_path: Path) -> None:
    book = TokenBook(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        issued = list(pool.map(lambda _: book.issue(60, 1)[0], range(20)))
    again = TokenBook(tmp_path)
    assert all(_succeeds(again, secret) for secret in issued)


@pytest.mark.parametrize("damage", [b"", b"[{]", b'[{"digest":"x"}]', b" " * (2 << 20)])
def test_with_a_damaged_book_all_tokens_are_void(tmp_path: Path, damage: bytes) -> None:
    secret, _ = TokenBook(tmp_path).issue(60, 1)
    (tmp_path / "tokens.json").write_bytes(damage)
    book = TokenBook(tmp_path)
    with pytest.raises(Forbidden):
        book.redeem(secret)
    book.redeem(book.issue(60, 1)[0])


def test_the_book_is_bounded_and_forgets_what_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 5)
    book = TokenBook(tmp_path)
    issued = [book.issue(60, 1)[0] for _ in range(5)]
    with pytest.raises(Exhausted, match="5 tokens"):
        book.issue(60, 1)
    book.redeem(issued[0])
    book.issue(60, 1)
    with pytest.raises(Exhausted):
        book.issue(60, 1)


@pytest.mark.parametrize(
    ("expires_s", "uses", "field"),
    [
        (0, 1, "expires_s"),
        (-1, 1, "expires_s"),
        (1e9, 1, "expires_s"),
        (60, 0, "uses"),
        (60, 10**6, "uses"),
    ],
)
def test_tokens_without_end_or_use_are_not_given_out(
    tmp_path: Path, expires_s: float, uses: int, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        TokenBook(tmp_path).issue(expires_s, uses)
    assert refused.value.field == field


def _succeeds(book: TokenBook, secret: bytes) -> bool:
    try:
        book.redeem(secret)
    except NetdError:
        return False
    return True
