"""How a command speaks: errors without a traceback and with the right exit code, and consoles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cbirbench.errors import CbirbenchError

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def reported() -> Iterator[None]:
    """Print what went wrong without a traceback, and leave with the exit code that says which kind it was."""
    try:
        yield
    except CbirbenchError as error:
        typer.echo(f"Error: {error.problem}", err=True)
        if error.remedy:
            typer.echo(f"What to do: {error.remedy}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(1) from None


def console(*, stderr: bool) -> Console:
    """A terminal that knows its width and colours."""
    from rich.console import Console

    return Console(stderr=stderr)
