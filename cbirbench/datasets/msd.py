"""The paper's benchmark: liver slices from the Medical Segmentation Decathlon's Task03_Liver (section 6.1).

The folder is the Decathlon's own: ``imagesTr/liver_N.nii.gz`` are contrast-enhanced abdominal CT scans in
Hounsfield units, ``labelsTr/liver_N.nii.gz`` their masks (0 background, 1 liver, 2 tumour). The scans are
those of LiTS; as far as is known, each is of another patient. Masks that were made anew, with more structures
than these, are read with the option `targets`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from cbirbench.datasets.dataset_json import listed_files, listed_names
from cbirbench.datasets.scan_slices import Drawing, ScanIdentity, drawn_slices
from cbirbench.datasets.volume import READER_VERSION
from cbirbench.datasets.volumes import open_mask, open_volume
from cbirbench.errors import DataError, UsageError
from cbirbench.interfaces import Json, Options, Source, option
from cbirbench.slices import Slices

DATA_VARIABLE = "CBIRBENCH_DATA"
"""The environment variable that names the data folder where the options do not."""

_TASK_FOLDERS = "Task03_Liver*"
_HOW_TO_GIVE = (
    f"Give --data DIR or set {DATA_VARIABLE}: the folder Task03_Liver of the Medical Segmentation Decathlon "
    "(medicaldecathlon.com), which holds imagesTr and labelsTr, or the folder that holds it."
)


class DecathlonOptions(Options):
    """Options of the `decathlon` benchmark."""

    data: Path | None = option(
        None,
        description=f"The task's folder, or the folder that holds it; by default ${DATA_VARIABLE}.",
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
    slices_per_kind: int = option(
        5,
        description="Slices with liver, and as many without, drawn from each volume.",
        unit="slices",
        source="section 6.1",
        ge=1,
    )
    slice_seed: int = option(0, description="Seed of the drawing of slices.", source="ours", ge=0)
    targets: tuple[Annotated[int, Field(ge=1, le=255)], ...] = option(
        (),
        description="The masks' values that are the target organ, 1,2 for instance; by default all above 0. "
        "For masks with further structures, which are named as dataset.json names them.",
        source="section 6.1",
    )

    @field_validator("targets")
    @classmethod
    def _in_order(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(values)))


@dataclass(frozen=True)
class _Pair:
    image: Path
    label: Path


class Decathlon:
    """MSD Task03_Liver: 5 slices with liver and 5 without from each labelled volume."""

    options_type: ClassVar[type[Options]] = DecathlonOptions
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    synthetic: ClassVar[bool] = False

    def __init__(self, options: DecathlonOptions) -> None:
        self.options = options

    @property
    def structures(self) -> Mapping[int, str]:
        """Names of the masks' values: the Decathlon's; where `targets` is set, those of dataset.json.

        Masks that need `targets` are not the Decathlon's own, so its names may not be theirs.

        Raises:
            UsageError: `targets` is set and the data folder is not there.
            DataError: `targets` is set and dataset.json is damaged.
        """
        if not self.options.targets:
            return {1: "liver", 2: "tumour"}
        return listed_names(self._task_folder() / "dataset.json")

    def sources(self) -> Sequence[Source]:
        """The labelled volumes in numeric order: the first are the gallery, the next the queries.

        Raises:
            UsageError: No data folder was given or it is another, or it has too few labelled volumes.
            DataError: A file that belongs to another, or that dataset.json lists, is not there.
        """
        wanted = self.options.train_volumes + self.options.test_volumes
        # Only where set, so that what was read before there was such an option is found again.
        targets = {"targets": self.options.targets} if self.options.targets else {}
        pairs = self._labelled_pairs(self._task_folder())
        if len(pairs) < wanted:
            raise UsageError(
                f"{self._task_folder()} has {len(pairs)} labelled volumes, but decathlon.train_volumes="
                f"{self.options.train_volumes} and decathlon.test_volumes={self.options.test_volumes} need "
                f"{wanted}.",
                f"Complete the download{self._or_a_subset(len(pairs))}.",
            )
        return [
            Source(
                volume_id=volume_id,
                patient_id=volume_id,
                split="gallery" if position < self.options.train_volumes else "query",
                fingerprint={
                    "image": _file_fingerprint(pair.image),
                    "label": _file_fingerprint(pair.label),
                    "slices_per_kind": self.options.slices_per_kind,
                    "slice_seed": self.options.slice_seed,
                    "reader": READER_VERSION,
                    **targets,
                },
            )
            for position, (volume_id, pair) in enumerate(list(pairs.items())[:wanted])
        ]

    def read(self, source: Source) -> Slices:
        """Draw a volume's slices by its mask and read them.

        Raises:
            DataError: A file is damaged, image and mask do not match, the mask has no liver or too few slices
                of a kind, or the values are no Hounsfield units.
        """
        folder = self._task_folder()
        pair = self._labelled_pairs(folder).get(source.volume_id)
        if pair is None:
            raise DataError(
                f"{folder} no longer has {source.volume_id}.", "Run again once the data are back."
            )
        image = open_volume(pair.image)
        scan = ScanIdentity(source.volume_id, source.patient_id, source.volume_id)
        drawing = Drawing(
            slices_per_kind=self.options.slices_per_kind,
            slice_seed=self.options.slice_seed,
            targets=self.options.targets,
            organ="liver",
            benchmark="decathlon",
        )
        return drawn_slices(scan, image, open_mask(pair.label, image), drawing)

    def _task_folder(self) -> Path:
        given = self.options.data or os.environ.get(DATA_VARIABLE)
        if not given:
            raise UsageError(
                "The benchmark decathlon needs CT volumes, and no data folder was given.", _HOW_TO_GIVE
            )
        data = Path(given).expanduser()
        if not data.is_dir():
            raise UsageError(f"The data folder {data} is no folder.", _HOW_TO_GIVE)
        if (data / "imagesTr").is_dir() or (data / "labelsTr").is_dir():
            found = [data]
        else:
            found = sorted(path for path in data.glob(_TASK_FOLDERS) if path.is_dir())
        if len(found) > 1:
            raise UsageError(
                f"{data} holds {len(found)} task folders: {', '.join(path.name for path in found)}.",
                "Give --data with the one to use.",
            )
        missing = (
            [name for name in ("imagesTr", "labelsTr") if not (found[0] / name).is_dir()] if found else []
        )
        if not found or missing:
            lacks = f"{found[0]} has no folder {missing[0]}" if found else f"{data} holds no {_TASK_FOLDERS}"
            raise UsageError(f"{lacks}.", _HOW_TO_GIVE)
        return found[0]

    def _labelled_pairs(self, folder: Path) -> dict[str, _Pair]:
        images, labels = _scans(folder / "imagesTr"), _scans(folder / "labelsTr")
        for alone, other in (
            (images.keys() - labels.keys(), "label"),
            (labels.keys() - images.keys(), "image"),
        ):
            if alone:
                first = min(alone, key=_numeric_order)
                path = (images if other == "label" else labels)[first]
                raise DataError(
                    f"{path} has no {other}: {len(alone)} file(s) of {folder} lack theirs.",
                    f"Copy the {other} again, or move {path.name} away.",
                )
        pairs = {name: _Pair(images[name], labels[name]) for name in sorted(images, key=_numeric_order)}
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
        test = min(max(round(count * share), 1), count - 1)
        return (
            f"; to run on the {count} at hand on purpose, pass "
            f"--set decathlon.train_volumes={count - test} --set decathlon.test_volumes={test}"
        )


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


def _numeric_order(name: str) -> tuple[tuple[int | str, ...], str]:
    """Sort key by which liver_2 comes before liver_10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)), name


def _file_fingerprint(path: Path) -> Mapping[str, Json]:
    try:
        state = path.stat()
    except OSError as error:  # a link into nowhere, say
        raise DataError(f"{path} cannot be found: {error.strerror}.", "Copy it again.") from error
    return {"name": path.name, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
