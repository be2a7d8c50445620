from __future__ import annotations

import re

import cli_page
from typer.testing import CliRunner

from cbirbench.cli import app


def help_of(command: str) -> str:
    """What a user reads; rich, where it is, may cut no option at that width."""
    result = CliRunner().invoke(app, [*command.split()[1:], "--help"], terminal_width=200, color=False)
    assert result.exit_code == 0
    return result.output


def test_the_page_names_every_command_and_every_option() -> None:
    page = cli_page.page()
    sections = dict(re.findall(r"^## (cbirbench[^\n]*)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    waiting = ["cbirbench"]
    for command in waiting:
        assert command in sections
        text = help_of(command)
        _, _, below = text.partition("Commands:")
        waiting += [f"{command} {name}" for name in re.findall(r"^  (\S+)", below, re.MULTILINE)]
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}
        assert not {name for name in options if name not in sections[command]}, command
        assert options or command in ("cbirbench plugins", "cbirbench data")
    assert set(waiting) == set(sections)
    assert {"cbirbench run", "cbirbench plugins list", "cbirbench data check"} <= set(waiting)


def test_an_option_has_what_it_takes_does_and_its_bounds() -> None:
    rows = [line for line in cli_page.page().splitlines() if "--eval-every" in line]

    assert "EPOCHS" in rows[0]
    assert "while training" in rows[0]
    assert "0 |" in rows[0]
