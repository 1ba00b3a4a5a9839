"""What scripts say when they are called wrongly; nothing is installed or run."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    ["test bogus", "test unit docs", "demo --kepp", "lab", "lab bogus", "newer-engines --bogus"],
)
def test_a_wrong_argument_is_answered_with_the_usage(command: str) -> None:
    script, *arguments = command.split()
    done = run(f"scripts/{script}", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: scripts/{script} [")
    assert done.stdout == ""


def test_the_package_depends_on_what_its_scripts_call() -> None:
    text = (ROOT / "scripts/build-deb").read_text()
    (depends,) = re.findall(r"^Depends: (.*)$", text, re.MULTILINE)
    assert "systemd-sysusers netd.conf\n" in text  # which must not fail
    assert "systemd" in depends.split(", ")


def test_an_installation_goes_on_where_nothing_watches_devices(tmp_path: Path) -> None:
    """As in a container that has systemd and no udev."""
    text = (ROOT / "scripts/install").read_text()
    (function,) = re.findall(r"^tell_others\(\) \{.*?\n\}$", text, re.MULTILINE | re.DOTALL)
    function = function.replace("/run/udev/", f"{tmp_path}/")
    stubs = "live() { true; }; systemctl() { [ $1 = daemon-reload ]; }; udevadm() { return 1; }"
    done = run("bash", "-c", f"set -eu; {stubs}; {function}\ntell_others; echo on")
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_the_check_that_failed_is_named() -> None:
    text = (ROOT / "scripts/test").read_text()
    functions = re.findall(r"^(?:heading|check)\(\) \{.*?\}$", text, re.MULTILINE | re.DOTALL)
    program = "set -eu; failed=()\n" + "\n".join(functions)
    done = run("bash", "-c", program + "\ncheck 'the name' false; echo \"${failed[*]}\"")
    assert done.stdout.splitlines()[-1] == "the name"
