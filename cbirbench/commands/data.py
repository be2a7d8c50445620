"""`cbirbench data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbirbench.commands.speaking import console, reported

data_app = typer.Typer(help="Data to run on.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    volumes: Annotated[int, typer.Option(help="How many bodies.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Decides the bodies.", min=0)] = 0,
) -> None:
    """Write synthetic abdominal CT as NIfTI in the Decathlon's folder layout."""
    with reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.datasets.phantom_export import write_decathlon_layout

        progress = ConsoleProgress(console(stderr=True), quiet=False)
        write_decathlon_layout(out, volumes=volumes, seed=seed, progress=progress)
        typer.echo(f"Wrote {volumes} synthetic volumes to {out}")
