"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cbirbench import __version__
from cbirbench.commands.cache import cache
from cbirbench.commands.data import data_app
from cbirbench.commands.pictures import explain, paper, views
from cbirbench.commands.plugins import plugins_app
from cbirbench.commands.queries import cross_exam, query
from cbirbench.commands.run import report, run
from cbirbench.commands.speaking import reported, value_mistake


class Commands(TyperGroup):
    """All commands; an option's value of the wrong type is told like any other mistake."""

    def invoke(self, ctx: Any) -> Any:  # its class is typer's own or click's, by typer's version
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            mistake = value_mistake(error)
            if mistake is None:
                raise
        with reported():
            raise mistake


app = typer.Typer(
    name="cbirbench",
    cls=Commands,
    help="Benchmark feature extractors for content-based retrieval of CT slices, with explanations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Benchmark feature extractors for content-based retrieval of CT slices, with explanations."""
    if version:
        typer.echo(f"cbirbench {__version__}")
        raise typer.Exit


for command in (run, report, explain, query, cross_exam, views, paper, cache):
    app.command()(command)
app.add_typer(plugins_app, name="plugins")
app.add_typer(data_app, name="data")
