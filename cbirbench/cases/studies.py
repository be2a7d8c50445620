"""A user's own scan: its slices by their numbers, without labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cbirbench.datasets.scan_names import stem_of
from cbirbench.datasets.scan_slices import ScanIdentity, slices_at
from cbirbench.doubts import heard
from cbirbench.errors import DataError, UsageError
from cbirbench.scans.geometry import orientation
from cbirbench.scans.volume import Volume
from cbirbench.scans.volumes import open_mask, open_volume
from cbirbench.slices import Slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ScanFile:
    """A scan on disk, and how it is to be read.

    Attributes:
        path: A file, or the folder of a DICOM series.
        orientation: Where the stored axes point whatever the file says; empty for what it says.
        unstated: Where they point in a file that does not say it.
        series: Which DICOM series of a folder; empty for the only one.
    """

    path: Path
    orientation: str = ""
    unstated: str = ""
    series: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """An opened scan, known by its file's name; nothing that the file says of the patient is kept.

    Attributes:
        name: The file's name without its ending, or the folder's name.
        volume: The scan.
        notes: What is doubtful about it; grows while it is read.
        put_right: Whether its axes point where a user said, and not where the file says.
    """

    name: str
    volume: Volume
    notes: list[str] = field(default_factory=list)
    put_right: bool = False

    @property
    def slice_count(self) -> int:
        """Number of axial slices."""
        return self.volume.grid.slice_count

    @property
    def spacing_mm(self) -> float:
        """Distance between slices along their normal, in millimetres."""
        return self.volume.grid.voxel_mm[0]

    def z_mm(self, number: int) -> float:
        """Height of a slice above the most inferior one, in millimetres."""
        return number * self.spacing_mm

    def read(
        self, numbers: Sequence[int], role: str = "query", labels: Mapping[int, int] | None = None
    ) -> Slices:
        """Read slices, in ascending order.

        Args:
            numbers: Which, 0 the most inferior.
            role: Stands before the ids, so that no slice shares its id with one of a gallery or of another
                study whose file has the same name.
            labels: By number; without them all are 0, which says nothing.

        Raises:
            DataError: A file is damaged, or its values are no Hounsfield units.
        """
        volume_id = f"{role}/{self.name}"
        scan = ScanIdentity(volume_id, patient_id=volume_id, study_id=volume_id)
        wanted = {number: 0 if labels is None else labels[number] for number in numbers}
        with heard(self.notes):
            return slices_at(scan, self.volume, wanted)

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask of the study, shape ``(slices, rows, columns)``.

        Raises:
            DataError: It is damaged, or which of its voxels belong to which of the scan's is not known.
        """
        try:
            with heard(self.notes):
                return open_mask(path, self.volume, put_right=self.put_right).read_mask(self.volume)
        except DataError as error:
            if "mask_grid" not in error.remedy:
                raise
            # That is an option of benchmarks; commands on single cases have none.
            raise DataError(
                error.problem,
                "Check that the two belong together. If their voxels match all the same, copy the scan's "
                "affine to the mask.",
            ) from error

    def check(self, number: int, what: str = "slice") -> int:
        """Raise UsageError unless there is a slice of this number; gives it back."""
        if not 0 <= number < self.slice_count:
            raise UsageError(
                f"{self.volume.path} has {self._range()}, no {what} {number}.",
                "Slices are counted from 0, the most inferior, upwards.",
            )
        return number

    def numbers(self, text: str, option: str = "--slice") -> list[int]:
        """Slice numbers such as ``40``, ``40,42`` or ``40-45``, each once, in the order given.

        Args:
            text: What was asked for; may be empty only where the scan has a single slice.
            option: Where it was asked, for messages.

        Raises:
            UsageError: It is something else, or there is no such slice.
        """
        parts = re.split(r"[\s,;]+", text.strip()) if text.strip() else []
        if not parts and self.slice_count == 1:
            return [0]
        if not parts:
            raise UsageError(
                f"{self.volume.path} has {self._range()}, and {option} does not say which.",
                f"Give one, several or a range: {option} {self.slice_count // 2}, or 3,5, or 3-5; 0 is the "
                "most inferior.",
            )
        found: dict[int, None] = {}
        for part in parts:
            ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
            if ends is None or (ends[2] and int(ends[2]) < int(ends[1])):
                raise UsageError(
                    f"{option} takes slice numbers, got {part!r}.",
                    "Give one, several or an ascending range: 40, or 40,42, or 40-45.",
                )
            first, last = self.check(int(ends[1])), self.check(int(ends[2] or ends[1]))
            found |= dict.fromkeys(range(first, last + 1))
        return list(found)

    def _range(self) -> str:
        last = self.slice_count - 1
        return f"slices 0 to {last}" if last else "one slice, 0"


def open_study(file: ScanFile) -> Study:
    """Open a scan; its voxels are read later.

    Raises:
        UsageError: There is no such file, or an orientation is none.
        DataError: It cannot be read, is no CT volume, or lies nowhere in space.
    """
    if not file.path.exists():
        raise UsageError(
            f"{file.path} does not exist.", "Name a scan: a file, or the folder of a DICOM series."
        )
    notes: list[str] = []
    with heard(notes):
        volume = open_volume(
            file.path,
            unstated=orientation(file.unstated) if file.unstated else "",
            orientation=orientation(file.orientation) if file.orientation else "",
            series=file.series,
        )
    put_right = bool(file.orientation) or (bool(file.unstated) and not volume.stated)
    return Study(study_name(file.path), volume, notes, put_right)


def study_name(path: Path) -> str:
    """What a scan is called: its file's name without the ending, or its folder's name."""
    return path.resolve().name if path.is_dir() else stem_of(path.name)
