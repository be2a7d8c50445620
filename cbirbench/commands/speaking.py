"""How a command speaks: errors without a traceback and with the right exit code, and consoles.

Names and texts of plugins, files and scans are shown, never obeyed: control characters become question marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cbirbench.errors import CbirbenchError
from cbirbench.plain_text import printable

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def reported() -> Iterator[None]:
    """Print what went wrong without a traceback, and leave with the exit code that says which kind it was."""
    try:
        yield
    except CbirbenchError as error:
        say(f"Error: {error.problem}", err=True)
        if error.remedy:
            say(f"What to do: {error.remedy}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(1) from None


def console(*, stderr: bool) -> Console:
    """A terminal that knows its width and colours, and does nothing that a text tells it to."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Literal(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                is_text = not segment.control and not segment.text.isprintable()
                yield Segment(printable(segment.text), segment.style) if is_text else segment

    return Literal(stderr=stderr, emoji=False)


def say(text: str, *, err: bool = False) -> None:
    """Print a text with a line's end."""
    typer.echo(printable(text), err=err)
