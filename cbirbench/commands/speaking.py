"""How a command speaks: errors without a traceback and with the right exit code, and consoles.

Names and texts of plugins, files and scans are shown, never obeyed: control characters become question marks.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cbirbench.errors import CbirbenchError, UsageError
from cbirbench.plain_text import printable

if TYPE_CHECKING:
    from rich.console import Console


_SHOWN = 60


@contextmanager
def reported() -> Iterator[None]:
    """Print what went wrong without a traceback, and leave with the exit code that says which kind it was."""
    try:
        yield
    except (CbirbenchError, OSError, ValueError) as error:
        told = error if isinstance(error, CbirbenchError) else _path_mistake(error)
        if told is None:  # a fault of ours
            raise
        say(f"Error: {told.problem}", err=True)
        if told.remedy:
            say(f"What to do: {told.remedy}", err=True)
        raise typer.Exit(told.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(1) from None


def _path_mistake(error: OSError | ValueError) -> UsageError | None:
    """What is wrong with a path that no file can have; None where the error is of another kind."""
    where = "Check the paths that were given, those in --set, tables and manifests included."
    if isinstance(error, OSError):
        if error.errno != errno.ENAMETOOLONG:
            return None
        path = str(error.filename or "")
        begins = f": it begins with {path[:_SHOWN]!r} and has {len(path)} characters" if path else ""
        return UsageError(f"A path is too long{begins}.", f"Give a shorter one. {where}")
    if "embedded null" not in str(error):
        return None
    return UsageError("A path holds a null character, which no file's name can have.", where)


def value_mistake(error: typer.BadParameter) -> UsageError | None:
    """Say in our words that an option got no value of its type; None where typer has words of its own.

    Args:
        error: What typer raised; newer versions hand on pydantic's text.
    """
    describe = getattr(error.__cause__, "errors", None)
    param = getattr(error, "param", None)
    if describe is None or param is None:
        return None
    first = describe()[0]
    kind, flag = str(first["type"]), max(param.opts, key=len)
    if not flag.startswith("-"):
        flag = param.metavar or flag.upper()
    bounds = {"from": getattr(param, "min", None), "to": getattr(param, "max", None)}
    span = "".join(f" {word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    if kind.startswith(("int_", "greater_", "less_")):
        problem = f"{flag} needs a whole number{span}, got {first['input']!r}."
    elif kind.startswith(("float_", "finite_")):
        problem = f"{flag} needs a number{span}, got {first['input']!r}."
    else:
        reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        problem = f"{flag} does not take {first['input']!r}: {reason}."
    command = f"`{error.ctx.command_path} --help`" if error.ctx else "--help"
    return UsageError(problem, f"{command} says what each option takes.")


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
