"""What several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Profile(StrEnum):
    """The two readings of the protocol."""

    PAPER = "paper"
    RELEASED_CODE = "released-code"


class Device(StrEnum):
    """Where extractors work."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class PluginKind(StrEnum):
    """The four kinds of plugin."""

    EXTRACTOR = "extractor"
    AUGMENTATION = "augmentation"
    METRIC = "metric"
    BENCHMARK = "benchmark"


class Gallery(StrEnum):
    """What the slices of an external cohort are looked up in."""

    BENCHMARK = "benchmark"
    SELF = "self"


BenchmarkArgument = Annotated[str, typer.Argument(help="phantom, decathlon, or another installed benchmark.")]
RunFolderArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder of a finished run.")]
ProfileOption = Annotated[Profile, typer.Option(help="The paper's text or its released program.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the scans, for benchmarks that read scans.")]
DeviceOption = Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME.OPTION=VALUE", help="Set an option; may be given many times."),
]
RelaxSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="relax.OPTION=VALUE", help="Explain otherwise than the run did."),
]
UntilReliableOption = Annotated[
    float | None,
    typer.Option(
        metavar="R", help="Explain with as many masks as a reliability of R takes, relax.masks at most."
    ),
]
OwnExtractorOption = Annotated[str, typer.Option(help="An extractor of the run (default: its first).")]
OwnRunOption = Annotated[int, typer.Option(help="Which training run of it, from 0.", min=0)]
TopOption = Annotated[
    int | None, typer.Option(metavar="K", help="How many retrieved slices (default: 5).", min=1)
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Importance maps of the query and what is retrieved, by RELAX.")
]
UncertaintyOption = Annotated[bool, typer.Option("--uncertainty", help="Draw the uncertainty too.")]
OrientationOption = Annotated[
    str, typer.Option(metavar="LPS", help="Where the stored axes point, whatever the file says.")
]
UnstatedOption = Annotated[
    str,
    typer.Option(
        "--unstated-orientation", metavar="LPS", help="Where they point in a file that does not say it."
    ),
]


def names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def ids(text: str) -> tuple[str, ...]:
    """The ids of a comma-separated list; the word none stands for an empty one."""
    return () if text.strip() == "none" else names(text)
