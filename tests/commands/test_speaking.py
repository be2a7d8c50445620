from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("long/" + "a" * 5000, "A path is too long: it begins with 'long/aaa"),
        ("null\0byte", "A path holds a null character"),
    ],
    ids=["long", "null"],
)
def test_a_path_that_no_file_can_have_is_the_users_mistake(
    path: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as end, reported():
        Path(path).read_bytes()
    shown = capsys.readouterr().err
    assert end.value.exit_code == 2
    assert f"Error: {says}" in shown and "What to do: " in shown and len(shown) < 400


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error", "a"), OSError("no number"), ValueError("ours")],
)
def test_a_fault_of_ours_stays_one(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reported():
        raise error
    assert caught.value is error


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
