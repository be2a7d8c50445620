"""`cbirbench explain`, `views` and `paper`: pictures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbirbench.commands.options import (
    BenchmarkArgument,
    DataOption,
    Device,
    DeviceOption,
    Profile,
    ProfileOption,
    RelaxSetOption,
    RunFolderArgument,
    SetOption,
    UntilReliableOption,
)
from cbirbench.commands.speaking import console, reported, say


def explain(
    folder: RunFolderArgument,
    query: Annotated[str, typer.Option(metavar="ID", help="A query, as slices.parquet names it.")],
    extractor: Annotated[str, typer.Option(help="Whose retrieval (default: the run's first).")] = "",
    run: Annotated[int, typer.Option(help="Which training run of it, from 0.", min=0)] = 0,
    top: Annotated[int, typer.Option(help="How many retrieved slices.", min=1)] = 5,
    until_reliable: UntilReliableOption = None,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Draw the uncertainty too.")] = False,
    device: DeviceOption = Device.AUTO,
    assignments: RelaxSetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture: .png, .svg or .pdf (default: EXTRACTOR-ID.png, here)."),
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(help="A .safetensors file for the maps, at native size.")
    ] = None,
) -> None:
    """Draw a query of a finished run with what it retrieves, and the importance maps of all."""
    with reported():
        from cbirbench.cases.query_explaining import QueryRequest, explain_query
        from cbirbench.console import ConsoleProgress
        from cbirbench.store import Store, cache_folder

        request = QueryRequest(
            folder=folder,
            query=query,
            extractor=extractor,
            run=run,
            top=top,
            until_reliable=until_reliable,
            uncertainty=uncertainty,
            device=device.value,
            assignments=tuple(assignments or ()),
            out=out,
            arrays=arrays,
        )
        progress = ConsoleProgress(console(stderr=True), quiet=False)
        for line in explain_query(request, Store(cache_folder()), progress):
            say(line)


def views(
    benchmark: BenchmarkArgument,
    augmentation: Annotated[
        str, typer.Option(help="hu-clip, wide-window, or another installed augmentation.")
    ],
    count: Annotated[int, typer.Option(help="How many slices, each with its two views.")] = 6,
    size: Annotated[int, typer.Option(help="Side of the views in pixels.")] = 224,
    seed: Annotated[int, typer.Option(help="Decides the slices and every random change.", min=0)] = 0,
    profile: ProfileOption = Profile.PAPER,
    data: DataOption = None,
    assignments: SetOption = None,
    out: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.")] = Path("views.png"),
) -> None:
    """Draw the training views that an augmentation makes of gallery slices."""
    with reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.store import Store, cache_folder
        from cbirbench.view_sampling import ViewRequest, draw_sample_views

        request = ViewRequest(
            benchmark=benchmark,
            augmentation=augmentation,
            count=count,
            size=size,
            seed=seed,
            profile=profile.value,
            data=data,
            assignments=tuple(assignments or ()),
        )
        progress = ConsoleProgress(console(stderr=True), quiet=False)
        drawn = draw_sample_views(request, out, Store(cache_folder()), progress)
        for note in drawn.notes:
            say(f"Note: {note}", err=True)
        say(f"Wrote {out}: {drawn.title}")
        for departure in drawn.departures:
            say(f"  changed: {departure}")


def paper(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Folders of finished runs, on the same data.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables and figures.")] = Path("paper-tables"),
) -> None:
    """Write the paper's tables 1 to 5 (Markdown, LaTeX) and figures 2, 3, 6 and 7 from finished runs."""
    with reported():
        from cbirbench.paper import write_paper

        for path in write_paper(folders, out):
            say(f"Wrote {path}")
