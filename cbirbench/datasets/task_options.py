"""A task of the Medical Segmentation Decathlon as data, and the options that its benchmark has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import create_model

from cbirbench.datasets.sampling import TooFew
from cbirbench.datasets.scan_options import ScanOptions
from cbirbench.downloads.archives import DATA_VARIABLE
from cbirbench.interfaces import option


@dataclass(frozen=True)
class Task:
    """A task of the Decathlon as a benchmark.

    Attributes:
        benchmark: The benchmark's name.
        folder: How the task's folder is called.
        organ: What the target is called, for messages.
        structures: Names of the masks' values.
        train_volumes: Volumes in the gallery, unless an option says otherwise.
        test_volumes: Volumes after those, for queries.
        targets: The masks' values that are the target; empty: all above 0.
        too_few: What to do with a volume that has fewer slices of a kind than are to be drawn.
        windows: The organ of `cbirbench.windows.ORGAN_WINDOWS` whose windows extractors are given; empty for
            the paper's.
    """

    benchmark: str
    folder: str
    organ: str
    structures: Mapping[int, str]
    train_volumes: int
    test_volumes: int
    targets: tuple[int, ...] = ()
    too_few: TooFew = "refuse"
    windows: str = ""


class TaskOptions(ScanOptions):
    """Options of a benchmark on a task of the Decathlon."""

    data: Path | None = option(
        None,
        description=f"The task's folder, or the folder that holds it; by default ${DATA_VARIABLE}, or where "
        "`cbirbench data fetch` puts it.",
        protocol=False,
    )
    train_volumes: int = option(
        100, description="Volumes whose slices are the gallery.", unit="volumes", source="section 6.1", ge=1
    )
    test_volumes: int = option(
        31,
        description="Volumes after those, whose slices are queries.",
        unit="volumes",
        source="section 6.1",
        ge=1,
    )


def options_of(task: Task, benchmark: type) -> type[TaskOptions]:
    """The options of a task's benchmark: those of all tasks, with the task's defaults.

    Args:
        task: The task.
        benchmark: The benchmark's class, whose attribute `options_type` they become.
    """
    fields = TaskOptions.model_fields
    volumes = task.train_volumes + task.test_volumes
    share = f"the paper's share of 100 to 31, of the task's {volumes} labelled volumes"
    changed = {
        "train_volumes": (task.train_volumes, share),
        "test_volumes": (task.test_volumes, share),
        "targets": (task.targets, f"ours: the {task.organ}" if task.targets else "as section 6.1"),
        "too_few": (
            task.too_few,
            "ours: targets may span few slices" if task.too_few != "refuse" else "section 6.1",
        ),
    }
    definitions: dict[str, Any] = {}
    for name, (default, source) in changed.items():
        info = fields[name]
        extra = cast("dict[str, Any]", info.json_schema_extra)
        bounds: dict[str, Any] = {"ge": 1} if name.endswith("_volumes") else {}
        definitions[name] = (
            info.annotation,
            option(default, description=info.description or "", unit=extra["unit"], source=source, **bounds),
        )
    made = create_model(
        f"{benchmark.__name__}Options",
        __base__=TaskOptions,
        __doc__=f"Options of the `{task.benchmark}` benchmark.",
        __module__=benchmark.__module__,
        **definitions,
    )
    made.__qualname__ = f"{benchmark.__qualname__}.options_type"  # by which pickle finds it
    return made


def window_defaults(organ: str) -> dict[str, dict[str, Any]]:
    """The organ's windows, for everything that takes windows."""
    names = ("simsiam", "imagenet", "hog", "gabor", "intensity-histogram")
    embedded = {name: {"window": organ} for name in names}
    return {"hu-clip": {"wide": organ, "narrow": organ}, "wide-window": {"wide": organ}, **embedded}
