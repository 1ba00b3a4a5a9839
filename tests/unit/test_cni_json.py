"""The plugin's JSON says what the standard library's says, and refuses what that refuses."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netd.runtimes.shim import jsontext

ROOT = Path(__file__).parents[2]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip
BROKEN = ["", " ", "{", "[1,]", '{"a" 1}', "01", "NaN", "Infinity", "{} {}", "'a'", "\ufeff{}"]


@pytest.fixture(scope="module", params=["own", "standard"])
def module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module with the interpreter's parts, and as it is without them."""
    if request.param == "own":
        yield jsontext
        return
    parts = sys.modules.pop("_json")  # with None in its place an import fails
    sys.modules["_json"] = None  # type: ignore[assignment]
    try:
        yield importlib.reload(jsontext)
    finally:
        sys.modules["_json"] = parts
        importlib.reload(jsontext)


def test_values(module: ModuleType) -> None:
    @given(_VALUES)
    def same(value: object) -> None:
        assert json.loads(module.dumps(value)) == value
        assert module.loads(json.dumps(value, indent=1).encode()) == value
        assert module.loads(f"\n {json.dumps(value, ensure_ascii=False)}\t".encode()) == value

    same()


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json(module: ModuleType, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        module.loads(text.encode())


def test_what_is_too_much(module: ModuleType) -> None:
    for text in (b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"\xff", b'"\x00"'):
        with pytest.raises(ValueError):  # noqa: PT011
            module.loads(text)


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_broken_where_nothing_else_is_imported(text: str) -> None:
    """As a runtime starts the plugin: the interpreter's scanner has no error to raise then."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from netd.runtimes.shim import jsontext\n"
        "try: jsontext.loads(sys.argv[2].encode())\n"
        "except ValueError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program, str(ROOT), text],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("refused\n", "")
