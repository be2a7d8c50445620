"""Liver slices from the Medical Segmentation Decathlon's Task03_Liver (section 6.1).

A task's folder is the Decathlon's own: ``imagesTr/liver_N.nii.gz`` are CT scans in Hounsfield units,
``labelsTr/liver_N.nii.gz`` their masks (0 background, 1 liver, 2 tumour). The scans of the liver are those of
LiTS; as far as is known, each is of another patient. Masks that were made anew, with more structures than
these, are read with the option `targets`. The Decathlon's other CT tasks, in `msd_tasks`, are read likewise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cbirbench.datasets.dataset_json import listed_files, listed_names, says_synthetic
from cbirbench.datasets.scan_options import files_fingerprint, read_drawn
from cbirbench.datasets.scan_slices import ScanIdentity
from cbirbench.datasets.task_options import Task, TaskOptions, options_of, window_defaults
from cbirbench.downloads.archives import ARCHIVES, DATA_VARIABLE, default_data_folder, is_task_folder
from cbirbench.errors import DataError, UsageError
from cbirbench.interfaces import Options, Source
from cbirbench.numeric_order import numeric_order
from cbirbench.scans.volume import READER_VERSION
from cbirbench.slices import Slices

_MR_TASKS = ("Task01_BrainTumour", "Task02_Heart", "Task04_Hippocampus", "Task05_Prostate")


class DecathlonOptions(TaskOptions):
    """Options of the `decathlon` benchmark."""


@dataclass(frozen=True)
class _Pair:
    image: Path
    label: Path


class TaskBenchmark:
    """A task of the Decathlon: 5 slices with the target and 5 without from each labelled volume.

    A subclass names its task, ``class Spleen(TaskBenchmark, task=Task(...))``, and is then complete.
    """

    task: ClassVar[Task]
    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = TaskOptions
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls, task: Task, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.task = task
        if "options_type" not in vars(cls):
            cls.options_type = options_of(task, cls)
        cls.defaults = window_defaults(task.windows) if task.windows else {}

    def __init__(self, options: Any) -> None:
        self.options: TaskOptions = options

    @property
    def synthetic(self) -> bool:
        """Whether dataset.json says that a program made the scans."""
        return says_synthetic(self._task_folder() / "dataset.json")

    @property
    def structures(self) -> Mapping[int, str]:
        """Names of the masks' values: the task's; where `targets` is set, those of dataset.json.

        Masks that need `targets` are not the Decathlon's own, so its names may not be theirs.

        Raises:
            UsageError: `targets` is set and the data folder is not there.
            DataError: `targets` is set and dataset.json is damaged.
        """
        if self.options.targets == self.task.targets:
            return self.task.structures
        return listed_names(self._task_folder() / "dataset.json")

    def sources(self) -> Sequence[Source]:
        """The labelled volumes in numeric order: the first are the gallery, the next the queries.

        Raises:
            UsageError: No data folder was given or it is another, or it has too few labelled volumes.
            DataError: A file that belongs to another, or that dataset.json lists, is not there.
        """
        name, train, test = self.task.benchmark, self.options.train_volumes, self.options.test_volumes
        pairs = self._labelled_pairs(self._task_folder())
        if len(pairs) < train + test:
            raise UsageError(
                f"{self._task_folder()} has {len(pairs)} labelled volumes, but {name}.train_volumes={train} "
                f"and {name}.test_volumes={test} need {train + test}.",
                f"Complete the download{self._or_a_subset(len(pairs))}.",
            )
        return [
            Source(
                volume_id=volume_id,
                patient_id=volume_id,
                split="gallery" if position < train else "query",
                fingerprint={
                    "image": files_fingerprint((pair.image,)),
                    "label": files_fingerprint((pair.label,)),
                    "reader": READER_VERSION,
                    **self.options.shapes_slices(),
                },
            )
            for position, (volume_id, pair) in enumerate(list(pairs.items())[: train + test])
        ]

    def read(self, source: Source) -> Slices:
        """Draw a volume's slices by its mask and read them.

        Raises:
            DataError: A file is damaged, image and mask do not match, the mask has no target or too few
                slices of a kind, or the values are no Hounsfield units.
        """
        folder = self._task_folder()
        pair = self._labelled_pairs(folder).get(source.volume_id)
        if pair is None:
            raise DataError(
                f"{folder} no longer has {source.volume_id}.", "Run again once the data are back."
            )
        image = self.options.open_image(pair.image)
        mask = self.options.open_mask(pair.label, image)
        scan = ScanIdentity(source.volume_id, source.patient_id, source.volume_id)
        return read_drawn(scan, image, mask, self.options.drawing(self.task.organ, self.task.benchmark))

    def _how_to_give(self) -> str:
        return (
            f"Give --data DIR or set {DATA_VARIABLE}: the folder {self.task.folder} of the Medical "
            "Segmentation Decathlon (medicaldecathlon.com), which holds imagesTr and labelsTr, or the folder "
            f"that holds it. `cbirbench data fetch {self.task.benchmark}` downloads it."
        )

    def _task_folder(self) -> Path:
        name, wanted = self.task.benchmark, f"{self.task.folder}*"
        given = self.options.data or os.environ.get(DATA_VARIABLE)
        data = Path(given).expanduser() if given else default_data_folder()
        if not given and not (is_task_folder(data) or any(data.glob(wanted))):
            raise UsageError(
                f"The benchmark {name} needs CT volumes, and no data folder was given.", self._how_to_give()
            )
        if not data.is_dir():
            raise UsageError(f"The data folder {data} is no folder.", self._how_to_give())
        if is_task_folder(data):
            self._check_not_anothers(data)
            found = [data]
        else:
            found = sorted(path for path in data.glob(wanted) if path.is_dir())
        if len(found) > 1:
            raise UsageError(
                f"{data} holds {len(found)} task folders: {', '.join(path.name for path in found)}.",
                "Give --data with the one to use.",
            )
        missing = (
            [part for part in ("imagesTr", "labelsTr") if not (found[0] / part).is_dir()] if found else []
        )
        if not found or missing:
            lacks = f"{found[0]} has no folder {missing[0]}" if found else f"{data} holds no {wanted}"
            raise UsageError(f"{lacks}.", self._how_to_give())
        return found[0]

    def _check_not_anothers(self, folder: Path) -> None:
        readers = {archive.task: f"the benchmark {archive.benchmark}" for archive in ARCHIVES}
        readers |= dict.fromkeys(_MR_TASKS, "no benchmark here, as it is MR")
        for task, reader in readers.items():
            if task != self.task.folder and folder.resolve().name.startswith(task):
                raise UsageError(
                    f"{folder} is {task}, which is read by {reader}; {self.task.benchmark} reads "
                    f"{self.task.folder}.",
                    self._how_to_give(),
                )

    def _labelled_pairs(self, folder: Path) -> dict[str, _Pair]:
        images, labels = _scans(folder / "imagesTr"), _scans(folder / "labelsTr")
        for alone, other in (
            (images.keys() - labels.keys(), "label"),
            (labels.keys() - images.keys(), "image"),
        ):
            if alone:
                first = min(alone, key=numeric_order)
                path = (images if other == "label" else labels)[first]
                raise DataError(
                    f"{path} has no {other}: {len(alone)} file(s) of {folder} lack theirs.",
                    f"Copy the {other} again, or move {path.name} away.",
                )
        pairs = {name: _Pair(images[name], labels[name]) for name in sorted(images, key=numeric_order)}
        listed = listed_files(folder / "dataset.json")
        absent = [path for path in listed if not path.is_file()]
        if absent:
            raise DataError(
                f"{folder / 'dataset.json'} lists {len(listed)} files for training, but {len(absent)} are "
                f"not there; the first is {absent[0]}.",
                "Copy the missing files again, or drop them from dataset.json to do without them"
                f"{self._or_a_subset(len(pairs))}.",
            )
        return pairs

    def _or_a_subset(self, count: int) -> str:
        """Options that run on `count` volumes, split about as these options ask; a benchmark needs two."""
        if count < 2:
            return " (at least 2 labelled volumes are needed)"
        share = self.options.test_volumes / (self.options.train_volumes + self.options.test_volumes)
        test, name = min(max(round(count * share), 1), count - 1), self.task.benchmark
        return (
            f"; to run on the {count} at hand on purpose, pass "
            f"--set {name}.train_volumes={count - test} --set {name}.test_volumes={test}"
        )


class Decathlon(
    TaskBenchmark,
    task=Task(
        benchmark="decathlon",
        folder="Task03_Liver",
        organ="liver",
        structures={1: "liver", 2: "tumour"},
        train_volumes=100,
        test_volumes=31,
    ),
):
    """MSD Task03_Liver, the paper's benchmark: 5 slices with liver and 5 without from each volume."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = DecathlonOptions


def _scans(folder: Path) -> dict[str, Path]:
    """The NIfTI files of a folder by name; hidden ones, such as macOS's ``._`` files, are not scans."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"([^.].*)\.nii(\.gz)?", path.name)
        if match is None:
            continue
        if match[1] in found:
            raise DataError(
                f"{folder} holds {match[1]} twice: {found[match[1]].name} and {path.name}.", "Keep one."
            )
        found[match[1]] = path
    return found
