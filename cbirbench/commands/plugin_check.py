"""`cbirbench plugins check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cbirbench.commands.options import DataOption, JsonOption, PluginKind, SetOption
from cbirbench.commands.speaking import console, reported, say
from cbirbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cbirbench.conformance.inspection import Inspection


def check_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin's name or alias.")],
    kind: Annotated[
        PluginKind | None, typer.Option(help="Of several with that name, the one of this kind.")
    ] = None,
    assignments: SetOption = None,
    data: DataOption = None,
    scans: Annotated[
        int, typer.Option(help="How many scans of each side of a benchmark are read.", min=1)
    ] = 2,
    as_json: JsonOption = False,
) -> None:
    """Check that a plugin keeps to its interface, and say what to mend.

    Extractors get the options that the phantom benchmark sets for them, then those of --set. Exits with 0
    when no check failed, 1 when any did, 2 for a mistake in the command.
    """
    with reported():
        from cbirbench.conformance.lookup import plugin_called

        plugin = plugin_called(name, kind.value if kind else None)
        if data is not None and plugin.kind != "benchmark":
            raise UsageError(
                f"--data says where scans are, and {plugin.name!r} is no benchmark.", "Leave --data out."
            )
        from cbirbench.conformance.inspection import inspect  # with it comes torch
        from cbirbench.console import ConsoleProgress

        progress = ConsoleProgress(console(stderr=True), quiet=as_json)
        found = inspect(plugin, tuple(assignments or ()), progress, data=_path(data), scans=scans)
        for note in found.notes:
            say(f"Note: {note}", err=True)
        if as_json:
            import dataclasses
            import json

            report = {
                "plugin": plugin.name,
                "kind": plugin.kind,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "passed": found.passed,
                "closing": found.closing,
                "verdicts": [dataclasses.asdict(verdict) for verdict in found.verdicts],
            }
            typer.echo(json.dumps(report, indent=2))
        else:
            _show(found, console(stderr=False))
        if not found.passed:
            raise typer.Exit(1)


def _path(data: Path | None) -> Path | None:
    return data.expanduser() if data else None


COLOURS = {"passed": "green", "failed": "red", "skipped": "dim"}


def _show(found: Inspection, console: Console) -> None:
    """Print the verdicts as a table, each remedy below its verdict, and how many there are of each kind."""
    from rich.table import Table

    from cbirbench.commands.plugin_pages import literally

    plugin = found.plugin
    title = f"{plugin.kind} {plugin.name}, {plugin.distribution} {plugin.version}"
    console.print(literally(title), highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in found.verdicts:
        colour = COLOURS[verdict.outcome]
        table.add_row(f"[{colour}]{verdict.outcome}[/]", verdict.name, literally(verdict.found))
        if verdict.remedy:
            table.add_row("", "", literally(f"What to do: {verdict.remedy}"))
    console.print(table, highlight=False)
    counts = {word: sum(one.outcome == word for one in found.verdicts) for word in COLOURS}
    console.print(", ".join(f"{count} {word}" for word, count in counts.items() if count), highlight=False)
    if found.closing:
        console.print(found.closing, highlight=False)
