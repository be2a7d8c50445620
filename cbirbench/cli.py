"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cbirbench import __version__
from cbirbench.errors import CbirbenchError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="cbirbench",
    help="Benchmark feature extractors for content-based retrieval of CT slices, with explanations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
plugins_app = typer.Typer(help="What is installed.", no_args_is_help=True, rich_markup_mode=None)
data_app = typer.Typer(help="Data to run on.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(plugins_app, name="plugins")
app.add_typer(data_app, name="data")


class Profile(StrEnum):
    """The two readings of the protocol."""

    PAPER = "paper"
    RELEASED_CODE = "released-code"


class Device(StrEnum):
    """Where extractors work."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


# What several commands take.
BenchmarkArgument = Annotated[str, typer.Argument(help="phantom, decathlon, or another installed benchmark.")]
ProfileOption = Annotated[Profile, typer.Option(help="The paper's text or its released program.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the scans, for benchmarks that read scans.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME.OPTION=VALUE", help="Set an option; may be given many times."),
]


UntilReliableOption = Annotated[
    float | None,
    typer.Option(
        metavar="R", help="Explain with as many masks as a reliability of R takes, relax.masks at most."
    ),
]


@contextmanager
def _reported() -> Iterator[None]:
    """Print what went wrong without a traceback, and leave with the exit code that says which kind it was."""
    try:
        yield
    except CbirbenchError as error:
        typer.echo(f"Error: {error.problem}", err=True)
        if error.remedy:
            typer.echo(f"What to do: {error.remedy}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. What was finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(1) from None


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _ids(text: str) -> tuple[str, ...]:
    return () if text.strip() == "none" else _names(text)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Benchmark feature extractors for content-based retrieval of CT slices, with explanations."""
    if version:
        typer.echo(f"cbirbench {__version__}")
        raise typer.Exit


@app.command()
def run(
    benchmark: BenchmarkArgument,
    extractors: Annotated[
        str, typer.Option(help="Names, comma-separated; the others are compared with the first.")
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
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = Device.AUTO,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: results/BENCHMARK/TIME).")
    ] = None,
    assignments: SetOption = None,
    pixels: Annotated[bool, typer.Option(help="Keep the HU slices in the results' folder.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but the final table.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
) -> None:
    """Evaluate extractors on a benchmark."""
    with _reported():
        if runs is not None and runs < 1:
            raise UsageError(f"--runs needs a whole number from 1, got {runs}.", "Give --runs 1 or more.")
        from cbirbench.plan import Request
        from cbirbench.planning import build
        from cbirbench.store import Store, cache_folder

        request = Request(
            benchmark=benchmark,
            extractors=_names(extractors),
            metrics=_names(metrics),
            runs=runs,
            eval_every=eval_every,
            explain_every=explain_every,
            until_reliable=until_reliable,
            explain_queries=None if explain_queries is None else _ids(explain_queries),
            seed=seed,
            profile=profile.value,
            data=data,
            device=device.value,
            assignments=tuple(assignments or ()),
            pixels=pixels,
        )
        from cbirbench.console import ConsoleProgress

        progress = ConsoleProgress(_console(stderr=True), quiet=quiet or as_json)
        plan = build(request)
        for note in plan.notes:
            typer.echo(f"Note: {note}", err=True)
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
    from cbirbench.report.scoreboard import scoreboard
    from cbirbench.report.terminal import print_scoreboard

    board = scoreboard(results.read_summary(folder), results.read_table(folder, "scores.parquet"))
    print_scoreboard(board, _console(stderr=False))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
) -> None:
    """Show a finished run again and write its report.md anew, from its files alone."""
    with _reported():
        from cbirbench import results
        from cbirbench.runner import write_report

        write_report(folder, results.read_summary(folder))
        _show(folder, as_json=as_json)


@app.command()
def explain(
    folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a finished run.")],
    query: Annotated[str, typer.Option(metavar="ID", help="A query, as slices.parquet names it.")],
    extractor: Annotated[str, typer.Option(help="Whose retrieval (default: the run's first).")] = "",
    run: Annotated[int, typer.Option(help="Which training run of it, from 0.", min=0)] = 0,
    top: Annotated[int, typer.Option(help="How many retrieved slices.", min=1)] = 5,
    until_reliable: UntilReliableOption = None,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Draw the uncertainty too.")] = False,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = Device.AUTO,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="relax.OPTION=VALUE", help="Explain otherwise than the run did."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture: .png, .svg or .pdf (default: EXTRACTOR-ID.png, here)."),
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(help="A .safetensors file for the maps, at native size.")
    ] = None,
) -> None:
    """Draw a query of a finished run with what it retrieves, and the importance maps of all."""
    with _reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.query_explaining import QueryRequest, explain_query
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
        progress = ConsoleProgress(_console(stderr=True), quiet=False)
        for line in explain_query(request, Store(cache_folder()), progress):
            typer.echo(line)


@app.command()
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
    with _reported():
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
        progress = ConsoleProgress(_console(stderr=True), quiet=False)
        drawn = draw_sample_views(request, out, Store(cache_folder()), progress)
        for note in drawn.notes:
            typer.echo(f"Note: {note}", err=True)
        typer.echo(f"Wrote {out}: {drawn.title}")
        for departure in drawn.departures:
            typer.echo(f"  changed: {departure}")


@app.command()
def paper(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Folders of finished runs, on the same data.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables and figures.")] = Path("paper-tables"),
) -> None:
    """Write the paper's tables 1 to 5 (Markdown, LaTeX) and figures 2, 3, 6 and 7 from finished runs."""
    with _reported():
        from cbirbench.paper import write_paper

        for path in write_paper(folders, out):
            typer.echo(f"Wrote {path}")


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the entries.")] = False,
    kinds: Annotated[
        str,
        typer.Option(help="Only these kinds, comma-separated, as `cbirbench cache` shows them."),
    ] = "",
) -> None:
    """Show what the cache holds, or clear it."""
    with _reported():
        from cbirbench.store import Store, cache_folder

        store = Store(cache_folder())
        if kinds and not clear:
            raise UsageError("--kinds goes with --clear.", "Give --clear too, or leave --kinds out.")
        shown = store.clear(_names(kinds)) if clear else store.usage()
        typer.echo(f"{'Cleared from' if clear else 'Cache in'} {store.folder}")
        for usage in shown:
            typer.echo(f"  {usage.kind:<12}{usage.entries:>8} files {usage.size_bytes / 2**20:>10.1f} MiB")


@plugins_app.command("list")
def list_plugins(
    check: Annotated[bool, typer.Option("--check", help="Import each plugin and say what is wrong.")] = False,
) -> None:
    """List the installed plugins: kind, name, aliases, distribution, version. Imports none of them."""
    with _reported():
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
        _console(stderr=False).print(table)
        for text in problems:
            typer.echo(f"Broken: {text}", err=True)


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    volumes: Annotated[int, typer.Option(help="How many bodies.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Decides the bodies.", min=0)] = 0,
) -> None:
    """Write synthetic abdominal CT as NIfTI in the Decathlon's folder layout."""
    with _reported():
        from cbirbench.console import ConsoleProgress
        from cbirbench.datasets.phantom_export import write_decathlon_layout

        progress = ConsoleProgress(_console(stderr=True), quiet=False)
        write_decathlon_layout(out, volumes=volumes, seed=seed, progress=progress)
        typer.echo(f"Wrote {volumes} synthetic volumes to {out}")
