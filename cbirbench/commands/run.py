"""`cbirbench run` and `report`."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cbirbench.commands.options import (
    BenchmarkArgument,
    DataOption,
    Device,
    DeviceOption,
    Gallery,
    JsonOption,
    Profile,
    ProfileOption,
    RunFolderArgument,
    SetOption,
    UntilReliableOption,
    ids,
    names,
)
from cbirbench.commands.speaking import console, reported, say
from cbirbench.errors import UsageError


def run(
    benchmark: BenchmarkArgument,
    extractors: Annotated[
        str,
        typer.Option(
            help="Names, comma-separated; the others are compared with the first. small=imagenet is a "
            "variant: imagenet once more, with options by --set small.OPTION=VALUE."
        ),
    ] = "ours,simsiam,imagenet,hog,gabor",
    metrics: Annotated[
        str, typer.Option(help="Names, comma-separated; map@10 for a K of your own.")
    ] = "map,knn-accuracy,relevance-rank",
    runs: Annotated[
        int | None,
        typer.Option(help="Trainings of each trainable extractor (default: the profile's number)."),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(metavar="EPOCHS", help="Evaluate this often while training, for curves.", min=0),
    ] = None,
    explain_every: Annotated[
        int | None,
        typer.Option(
            metavar="EPOCHS", help="The same for metrics on explanations, which cost far more.", min=0
        ),
    ] = None,
    until_reliable: UntilReliableOption = None,
    explain_queries: Annotated[
        str | None,
        typer.Option(
            metavar="IDS",
            help="Queries to draw with what they retrieve and why, comma-separated, or none "
            "(default: the best, median and worst of each extractor).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seeds of all runs derive from it.", min=0)] = 0,
    profile: ProfileOption = Profile.PAPER,
    data: DataOption = None,
    queries: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH",
            help="An external cohort, a folder or a manifest, whose slices are looked up as well; may be "
            "given many times.",
        ),
    ] = None,
    gallery: Annotated[
        Gallery,
        typer.Option(help="What external cohorts are looked up in: the benchmark's gallery, or themselves."),
    ] = Gallery.BENCHMARK,
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: results/BENCHMARK/TIME).")
    ] = None,
    assignments: SetOption = None,
    pixels: Annotated[bool, typer.Option(help="Keep the HU slices in the results' folder.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but the final table.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate extractors on a benchmark."""
    with reported():
        if runs is not None and runs < 1:
            raise UsageError(f"--runs needs a whole number from 1, got {runs}.", "Give --runs 1 or more.")
        from cbirbench.plan import Request
        from cbirbench.planning import build
        from cbirbench.store import Store, cache_folder

        request = Request(
            benchmark=benchmark,
            extractors=names(extractors),
            metrics=names(metrics),
            runs=runs,
            eval_every=eval_every,
            explain_every=explain_every,
            until_reliable=until_reliable,
            explain_queries=None if explain_queries is None else ids(explain_queries),
            seed=seed,
            profile=profile.value,
            data=data,
            device=device.value,
            assignments=tuple(assignments or ()),
            pixels=pixels,
            queries=tuple(queries or ()),
            gallery=gallery.value,
        )
        from cbirbench.console import ConsoleProgress

        progress = ConsoleProgress(console(stderr=True), quiet=quiet or as_json)
        plan = build(request)
        for note in plan.notes:
            say(f"Note: {note}", err=True)
        progress.note(f"{benchmark}, profile {plan.title}, on {plan.device}")

        from cbirbench import results
        from cbirbench.runner import execute

        folder = out or Path("results") / benchmark / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
        command = shlex.join(["cbirbench", *sys.argv[1:]])
        try:
            execute(plan, folder, Store(cache_folder()), progress, command)
        except BaseException:
            if out is None:  # the next run names its folder by another time: this one would stay for ever
                results.release(folder)
            raise
        _show(folder, as_json=as_json)
        progress.note(f"Results: {folder}")


def _show(folder: Path, *, as_json: bool) -> None:
    """Print a finished run's table, from the files of its folder."""
    from cbirbench import results

    if as_json:
        results.read_summary(folder)
        typer.echo((folder / results.SUMMARY_FILE).read_text(encoding="utf-8"), nl=False)
        return
    from cbirbench.report.cohorts import cohorts_of, of_cohort, scores_of
    from cbirbench.report.scoreboard import scoreboard
    from cbirbench.report.terminal import print_scoreboard

    summary, scores = results.read_summary(folder), results.read_table(folder, "scores.parquet")
    for cohort in cohorts_of(summary):
        board = scoreboard(of_cohort(summary, cohort), scores_of(scores, summary, cohort))
        print_scoreboard(board, console(stderr=False))


def report(
    folder: RunFolderArgument,
    as_json: JsonOption = False,
) -> None:
    """Show a finished run again and write its report.md anew, from its files alone."""
    with reported():
        from cbirbench import results
        from cbirbench.runner import write_report

        write_report(folder, results.read_summary(folder))
        _show(folder, as_json=as_json)
