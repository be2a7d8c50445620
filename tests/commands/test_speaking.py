from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import typer
from rich.table import Table

from cbirbench.commands.speaking import console, reported, say
from cbirbench.errors import DataError

HOSTILE = "a\x1b]0;title\x07\x1b[31mb\u202e :smile: [red]c[/red]"


def failing() -> None:
    with reported():
        raise DataError(HOSTILE, HOSTILE)


@pytest.mark.parametrize("speak", [lambda: say(HOSTILE), failing], ids=["say", "error"])
def test_what_is_said_obeys_nothing(speak: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        speak()
    except typer.Exit as end:
        assert end.exit_code == 1
    shown = "".join(capsys.readouterr())
    assert "a?]0;title" in shown and ":smile: [red]c[/red]" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_console_obeys_nothing_in_texts_and_tables() -> None:
    for made in (HOSTILE, Table("name")):
        if isinstance(made, Table):
            made.add_row(HOSTILE.replace("[red]", "").replace("[/red]", ""))
        output = console(stderr=False)
        output.file = io.StringIO()
        output.print(made, markup=False, width=100)
        shown = output.file.getvalue()
        assert "?]0;title" in shown and " :smile" in shown
        assert shown.replace("\n", "").isprintable()
