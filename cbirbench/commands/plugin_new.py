"""`cbirbench plugins new`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cbirbench.commands.options import PluginKind
from cbirbench.commands.speaking import reported


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")],
    kind: Annotated[PluginKind, typer.Option(help="What the plugin is.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to put the plugin's folder in (default: here).")
    ] = Path(),
    author: Annotated[str, typer.Option(metavar="TEXT", help="Whom its licence and its card name.")] = "",
) -> None:
    """Write a new plugin: a distribution that installs, passes its tests and runs, to be changed."""
    with reported():
        from cbirbench.scaffold.rendering import FIRST_RUN
        from cbirbench.scaffold.writing import new_distribution

        folder = new_distribution(name, kind.value, out.expanduser(), author)
        # A path, not a name that pip would look up in an index.
        place = str(folder) if folder.is_absolute() or folder.parts[0] == ".." else f"./{folder.as_posix()}"
        typer.echo(f"Wrote the {kind.value} {name} to {folder}")
        typer.echo("Next:")
        typer.echo("  pip install -e " + shlex.quote(f"{place}[test]"))
        typer.echo(f"  cbirbench plugins check {name}")
        typer.echo(f"  {FIRST_RUN[kind.value].format(name=name)}")
