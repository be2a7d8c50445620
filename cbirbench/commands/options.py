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


def names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def ids(text: str) -> tuple[str, ...]:
    """The ids of a comma-separated list; the word none stands for an empty one."""
    return () if text.strip() == "none" else names(text)
