"""Options that every benchmark on scans with masks has, and how scans are opened by them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cbirbench.datasets.sampling import TooFew
from cbirbench.datasets.scan_slices import Drawing, ScanIdentity, drawn_slices
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.interfaces import Json, Options, option
from cbirbench.scans.geometry import orientation
from cbirbench.scans.volume import Volume
from cbirbench.scans.volumes import open_mask, open_volume
from cbirbench.slices import Slices


class ScanOptions(Options):
    """How slices are drawn from scans, and how scans and masks are read."""

    slices_per_kind: int = option(
        5,
        description="Slices with the target organ, and as many without, drawn from each volume.",
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
    too_few: TooFew = option(
        "refuse",
        description="A volume with fewer slices of a kind than are to be drawn: refuse it, or take-fewer.",
        source="section 6.1 draws 5 and 5",
    )
    unstated_orientation: str = option(
        "",
        description="Where the stored axes point, LPS or RAS for instance, in files that do not say it; by "
        "default such files are warned of and read by the affine that they have.",
        unit="axis codes",
        source="ours",
    )
    mask_grid: Literal["own", "image"] = option(
        "own",
        description="Where a mask's voxels lie: own: as its affine says, which must then be the image's; "
        "image: where the two differ, as the image's voxels that are stored at the same place in the file.",
        source="ours",
    )

    @field_validator("targets")
    @classmethod
    def _in_order(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(values)))

    @field_validator("unstated_orientation")
    @classmethod
    def _codes(cls, text: str) -> str:
        try:
            return orientation(text) if text.strip() else ""
        except UsageError as error:
            raise ValueError(str(error)) from error

    def shapes_slices(self) -> dict[str, Json]:
        """These options' part of a source's fingerprint.

        Options that came later enter only where they are set, so that what was read before is found again.
        """
        set_ones: dict[str, Json] = {}
        if self.targets:
            set_ones["targets"] = self.targets
        if self.too_few != "refuse":
            set_ones["too_few"] = self.too_few
        if self.unstated_orientation:
            set_ones["unstated_orientation"] = self.unstated_orientation
        if self.mask_grid != "own":
            set_ones["mask_grid"] = self.mask_grid
        return {"slices_per_kind": self.slices_per_kind, "slice_seed": self.slice_seed, **set_ones}

    def drawing(self, organ: str, benchmark: str) -> Drawing:
        """How slices are drawn; `organ` and `benchmark` are for messages."""
        return Drawing(
            slices_per_kind=self.slices_per_kind,
            slice_seed=self.slice_seed,
            targets=self.targets,
            too_few=self.too_few,
            organ=organ,
            benchmark=benchmark,
        )

    def open_image(
        self, path: Path, *, series: str = "", orientation: str = "", files: Sequence[Path] = ()
    ) -> Volume:
        """Open a scan.

        Args:
            path: A file, or the folder of a DICOM series.
            series: The series' UID, where the folder holds several.
            orientation: Where its stored axes point, whatever the file says.
            files: The files of the series, where they are known.

        Raises:
            DataError: It cannot be read.
        """
        return open_volume(
            path,
            unstated=self.unstated_orientation,
            orientation=orientation,
            series=series,
            files=files,
        )

    def open_mask(self, path: Path, image: Volume, *, orientation: str = "") -> Volume:
        """Open the mask of a scan that `open_image` opened with the same orientation.

        A mask beside a scan whose axes were put right is put right with it.

        Raises:
            DataError: It cannot be read, or which of its voxels belong to which of the scan's is not known.
        """
        put_right = bool(orientation) or (bool(self.unstated_orientation) and not image.stated)
        return open_mask(path, image, put_right=put_right, as_image=self.mask_grid == "image")


def read_drawn(scan: ScanIdentity, image: Volume, mask: Volume, drawing: Drawing) -> Slices:
    """Draw a scan's slices and read them; where there were too few of a kind and fewer were taken, warn.

    Raises:
        DataError: See `drawn_slices`.
    """
    slices = drawn_slices(scan, image, mask, drawing)
    shown = int(slices.labels.sum())
    if min(shown, len(slices) - shown) < drawing.slices_per_kind:
        warnings.warn(
            f"{scan.volume_id} gives {shown} slices with {drawing.organ} and {len(slices) - shown} without, "
            f"as it has no more: fewer than {drawing.slices_per_kind} of each.",
            DataWarning,
            stacklevel=2,
        )
    return slices


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that a scan or mask at a path consists of: all below a folder; with a header its voxels'."""
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return (path,)
    return tuple(sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{path.stem}.")))


def files_fingerprint(paths: tuple[Path, ...]) -> dict[str, Json]:
    """Names, sizes and times of a scan's files; for the many of a series, a digest of them.

    Raises:
        DataError: One of them is not there.
    """
    states = [_file_fingerprint(path) for path in paths]
    if len(states) == 1:
        return states[0]
    digest = hashlib.sha256(repr([sorted(state.items()) for state in states]).encode())
    return {"files": len(states), "sha256": digest.hexdigest()}


def _file_fingerprint(path: Path) -> dict[str, Json]:
    try:
        state = path.stat()
    except OSError as error:  # a link into nowhere, say
        raise DataError(f"{path} cannot be found: {error.strerror}.", "Copy it again.") from error
    return {"name": path.name, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
