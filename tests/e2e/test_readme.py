"""The pages of documentation tell what is so: their commands print what the pages show."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.pages import README, ROOT, Lab, matches, run_page, steps_of

PAGES = sorted(page for page in ROOT.glob("*.md") if steps_of(page.read_text()))


@pytest.mark.timeout(300)  # a page about hosts that fail waits for them to be found dead
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page: Path, stack: ExitStack, tmp_path: Path) -> None:
    wrong = []
    for step, output, code in run_page(Lab(stack, tmp_path), page):
        if code or not matches(step.output, output):
            shown, printed = "\n".join(step.output), "\n".join(output)
            command = "\n> ".join(step.command)
            wrong.append(
                f"{page.name}:{step.line}: {command}\n"
                f"exit code {code}, printed:\n{printed}\nthe page shows:\n{shown}"
            )
    assert not wrong, "\n\n".join(wrong)


def test_first_screen_has_the_two_commands() -> None:
    first_screen = README.read_text().splitlines()[:25]
    commands = [line for line in first_screen if line.startswith("scripts/")]
    assert commands == ["scripts/demo", "scripts/test"]


def test_comparison_sees_a_difference() -> None:
    assert matches(["id 0123456789abcdef", "..."], ["id fedcba9876543210", "a", "b"])
    assert not matches(["id 0123456789abcdef"], ["id 0123"])
    assert not matches(["one"], ["one", "two"])
    assert not matches(["one", "...", "two"], ["one", "three"])
