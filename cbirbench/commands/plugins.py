"""`cbirbench plugins`."""

from __future__ import annotations

from typing import Annotated

import typer

from cbirbench.commands.speaking import console, reported
from cbirbench.errors import CbirbenchError

plugins_app = typer.Typer(help="What is installed.", no_args_is_help=True, rich_markup_mode=None)


@plugins_app.command("list")
def list_plugins(
    check: Annotated[bool, typer.Option("--check", help="Import each plugin and say what is wrong.")] = False,
) -> None:
    """List the installed plugins: kind, name, aliases, distribution, version. Imports none of them."""
    with reported():
        from rich.markup import escape
        from rich.table import Table

        from cbirbench import registry

        table = Table("kind", "name", "aliases", "distribution", "version", box=None)
        problems = []
        for kind in registry.GROUPS:
            for plugin in registry.installed(kind):
                problem = plugin.problem
                if check and not problem:
                    try:
                        registry.load(plugin)
                    except CbirbenchError as error:
                        problem = str(error)
                cells = (kind, plugin.name, ", ".join(plugin.aliases), plugin.distribution, plugin.version)
                table.add_row(*map(escape, cells), style="red" if problem else None)
                if problem:
                    problems.append(f"{plugin.name} ({plugin.distribution}): {problem}")
        console(stderr=False).print(table)
        for text in problems:
            typer.echo(f"Broken: {text}", err=True)
