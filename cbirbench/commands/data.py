"""`cbirbench data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbirbench.commands.check import data_check
from cbirbench.commands.options import JsonOption
from cbirbench.commands.speaking import console, reported, say

data_app = typer.Typer(help="Data to run on.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("fetch")
def data_fetch(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="decathlon (the liver), lung, pancreas, hepatic-vessel, spleen, colon."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to put the task's folder in (default: $CBIRBENCH_DATA, or your own)."),
    ] = None,
    url: Annotated[str, typer.Option(help="Another mirror's address of the same archive.")] = "",
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep the archive once it is unpacked.")
    ] = False,
) -> None:
    """Download a CT task of the Medical Segmentation Decathlon, check it and unpack it.

    Run again after an interruption, it goes on where it was.
    """
    with reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.downloads.archives import archive_called, data_folder
        from cbirbench.downloads.fetching import fetch
        from cbirbench.downloads.inventory import places

        archive = archive_called(task)
        folder = fetch(
            archive,
            data_folder(out),
            url=url,
            keep_archive=keep_archive,
            progress=ConsoleProgress(console(stderr=True), quiet=False),
            say=lambda line: say(line, err=True),
        )
        _, looked_at = places()[0]
        found = looked_at.absolute() in (folder, folder.parent)
        say(f"{archive.task} is in {folder}")
        say(f"Run on it: cbirbench run {archive.benchmark}" + ("" if found else f" --data {folder}"))


@data_app.command("list")
def data_list(json_: JsonOption = False) -> None:
    """Show what each benchmark needs, and what of it is here."""
    with reported():
        from cbirbench.downloads.inventory import inventory, places

        entries = inventory()
        if json_:
            import dataclasses
            import json

            typer.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2, default=str))
            return
        from rich.markup import escape
        from rich.table import Table

        table = Table("benchmark", "needs", "here", "licence", "how", box=None)
        table.columns[0].no_wrap = True
        for entry in entries:
            here = {True: "yes", False: "no", None: ""}[entry.here]
            if entry.labelled_volumes is not None:
                here = f"{entry.labelled_volumes} labelled volumes, {entry.found_by}"
            table.add_row(*map(escape, (entry.benchmark, entry.needs, here, entry.licence, entry.how)))
        console(stderr=False).print(table)
        for name, place in places():
            say(f"{name}: {place}")


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    volumes: Annotated[int, typer.Option(help="How many bodies.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Decides the bodies.", min=0)] = 0,
    size: Annotated[int, typer.Option(help="Rows and columns of a slice.", min=64, max=1024)] = 256,
    slices: Annotated[
        int | None,
        typer.Option(help="Slices a volume; by default as many as the phantom draws.", min=16, max=2000),
    ] = None,
) -> None:
    """Write synthetic abdominal CT as NIfTI in the Decathlon's folder layout."""
    with reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.datasets.phantom_export import write_decathlon_layout

        progress = ConsoleProgress(console(stderr=True), quiet=False)
        write_decathlon_layout(out, volumes=volumes, seed=seed, size=size, slices=slices, progress=progress)
        say(f"Wrote {volumes} synthetic volumes to {out}")


data_app.command("check")(data_check)
