"""The benchmark `folder`: anybody's own scans, in a folder or named by a manifest.

Scans with masks give 5 slices with the target organ and 5 without, as in the paper (section 6.1). Scans
without masks give all their slices that a table labels; only metrics on the organ's place need masks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import field_validator, model_validator

from cbirbench.datasets.dataset_json import listed_names, says_synthetic
from cbirbench.datasets.discovery import spelt_out
from cbirbench.datasets.own_scans import OwnScan, segment_names, usable_scans
from cbirbench.datasets.sampling import TooFew
from cbirbench.datasets.scan_options import ScanOptions, files_fingerprint, files_of, read_drawn
from cbirbench.datasets.scan_slices import ScanIdentity, slices_at
from cbirbench.datasets.slice_labels import LABEL_FILES, UNNAMED_ORGAN
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.interfaces import Json, Options, Source, option
from cbirbench.numeric_order import numeric_order
from cbirbench.scans.volume import READER_VERSION
from cbirbench.slices import Slices

_HOW_TO_GIVE = (
    "Name a folder or a manifest: --data PATH. Where the masks lie apart from the images, say "
    "--set folder.images=DIR --set folder.masks=DIR."
)


class FolderOptions(ScanOptions):
    """Options of the `folder` benchmark, and of external cohorts."""

    data: Path | None = option(
        None,
        description="A folder, as images, or a manifest; --data sets it.",
        protocol=False,
    )
    images: Path | None = option(
        None,
        description="A folder with scans, and with their masks unless these lie apart: NIfTI, NRRD, "
        "MetaImage or DICOM.",
        protocol=False,
    )
    masks: Path | None = option(
        None, description="A folder with the masks alone, called as their scans are.", protocol=False
    )
    manifest: Path | None = option(
        None,
        description="A CSV or Parquet table with the columns patient and image, and study, mask, split, "
        "orientation, series, slice and label where they serve.",
        protocol=False,
    )
    labels: Path | None = option(
        None,
        description="A CSV or Parquet table of labels of slices, for scans without masks: case, slice, "
        f"label; by default {' or '.join(LABEL_FILES)} in the folder of scans.",
        protocol=False,
    )
    organ: str = option(
        UNNAMED_ORGAN, description="What the target is called.", protocol=False, min_length=1, max_length=60
    )
    too_few: TooFew = option(
        "take-fewer",
        description="A volume with fewer slices of a kind than are to be drawn: take-fewer, or refuse it.",
        source="ours: scans at hand often hold little besides the organ",
    )
    train_share: float = option(
        100 / 131,
        description="Share of the patients, in numeric order, whose slices are the gallery where no manifest "
        "says; each side has one patient at least.",
        source="section 6.1: 100 of 131",
        gt=0,
        lt=1,
    )
    patient_pattern: str = option(
        "",
        description="A regular expression whose first group, found in a scan's id, is the patient, where "
        "folders do not tell: '^([^_]+)' takes all before the first underscore.",
        protocol=False,
    )

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, text: str) -> str:
        try:
            groups = re.compile(text).groups
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        if text and groups < 1:
            raise ValueError("it has no group in parentheses")
        return text

    @model_validator(mode="after")
    def _one_place(self) -> FolderOptions:
        given = [name for name in ("data", "images", "manifest") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say where the scans are")
        if self.manifest is not None and self.masks is not None:
            raise ValueError("a manifest names the masks itself, so masks has no place beside it")
        return self


class _Packed(NamedTuple):
    """The files of a series as two texts: thousands of paths would be slow to hand over with each scan."""

    folder: str
    names: str

    @classmethod
    def of(cls, files: Sequence[Path]) -> _Packed:
        folder = os.path.commonpath([file.parent for file in files])
        return cls(folder, "\0".join(str(file.relative_to(folder)) for file in files))

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(self.folder, name) for name in self.names.split("\0"))


class Folder:
    """CT scans of one's own, with masks or with labels of slices."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = FolderOptions
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, options: FolderOptions) -> None:
        self.options = options
        # These two go with the benchmark to the processes that read.
        self._found: dict[str, OwnScan] = {}
        self._series_files: dict[str, _Packed] = {}

    @property
    def synthetic(self) -> bool:
        """Whether a dataset.json beside the scans, or beside any that a manifest names, says so.

        Raises:
            UsageError: See `sources`; where there is a manifest.
            DataError: See `sources`; and the dataset.json of the folder itself cannot be read.
        """
        if any(says_synthetic(folder / "dataset.json") for folder in self._near()):
            return True
        for folder in self._named_folders():
            # A file of that name far from the manifest may be of another program.
            with contextlib.suppress(DataError):
                if says_synthetic(folder / "dataset.json"):
                    return True
        return False

    @property
    def structures(self) -> Mapping[int, str]:
        """Names of the masks' values: those of a dataset.json beside images or masks, or of DICOM SEG files.

        The target is named as the option `organ` says, where that is set and nothing else names it.

        Raises:
            UsageError: See `sources`.
            DataError: See `sources`.
        """
        names: dict[int, str] = {}
        for folder in self._near():
            try:
                names = names or listed_names(folder / "dataset.json")
            except DataError as error:
                warnings.warn(f"{error.problem} Structures bear no names.", DataWarning, stacklevel=2)
        names = names or segment_names(scan.mask for scan in self._usable if scan.mask is not None)
        target = self.options.targets or (1,)
        if len(target) == 1 and self.options.organ != UNNAMED_ORGAN:
            names.setdefault(target[0], self.options.organ)
        return names

    def sources(self) -> Sequence[Source]:
        """The scans, patients in numeric order: the first are the gallery unless a manifest says otherwise.

        Scans with neither mask nor labels are warned of and left out.

        Raises:
            UsageError: No scans were named, none has a mask or labels, or they are of one patient.
            DataError: A manifest or table of labels is faulty, or a file is not there.
        """
        scans = self.split(self._usable)
        self._found = {scan.volume_id: replace(scan, files=()) for scan in scans}
        self._series_files = {scan.volume_id: _Packed.of(scan.files) for scan in scans if scan.sorted_out}
        return [
            Source(
                volume_id=scan.volume_id,
                patient_id=scan.patient_id,
                split="gallery" if scan.split == "gallery" else "query",
                fingerprint=self._fingerprint(scan),
            )
            for split in ("gallery", "query")
            for scan in scans
            if scan.split == split
        ]

    def read(self, source: Source) -> Slices:
        """Draw a scan's slices by its mask and read them; without a mask, all that have labels.

        Raises:
            DataError: A file is damaged, image and mask do not match, the mask has no target, a label is of a
                slice that is not there, or the values are no Hounsfield units.
        """
        if not self._found:
            self.sources()
        scan = self._found.get(source.volume_id)
        if scan is None:
            raise DataError(f"{source.volume_id} is no longer there.", "Run again once the data are back.")
        identity = ScanIdentity(scan.volume_id, scan.patient_id, scan.study_id)
        image = self.options.open_image(
            scan.image,
            series=scan.series,
            orientation=scan.orientation,
            files=self._series_files[scan.volume_id].files if scan.sorted_out else (),
        )
        if scan.mask is None:
            return slices_at(identity, image, scan.labels)
        mask = self.options.open_mask(scan.mask, image, orientation=scan.orientation)
        return read_drawn(identity, image, mask, self.options.drawing(self.options.organ, "folder"))

    def split(self, scans: Sequence[OwnScan]) -> list[OwnScan]:
        """Say of each scan on which side it is.

        Raises:
            UsageError: All are of one patient.
        """
        if all(scan.split for scan in scans):
            return list(scans)
        patients = sorted({scan.patient_id for scan in scans}, key=numeric_order)
        if len(patients) < 2:
            raise UsageError(
                f"{len(scans)} scans can be used, all of one patient, {patients[0]!r}: none is left for the "
                "queries.",
                "Give scans of two patients at least. Where folders are no patients, say how scans' ids tell "
                "them, --set folder.patient_pattern='^([^_]+)' for instance, or name them in a manifest.",
            )
        count = min(max(round(len(patients) * self.options.train_share), 1), len(patients) - 1)
        side: dict[str, Literal["gallery", "query"]] = {
            patient: "gallery" if n < count else "query" for n, patient in enumerate(patients)
        }
        return [replace(scan, split=side[scan.patient_id]) for scan in scans]

    def _fingerprint(self, scan: OwnScan) -> dict[str, Json]:
        shaped: dict[str, Json] = {
            "image": files_fingerprint(scan.files),
            # Of two hospitals' scans names, sizes and times may agree; where they lie does not.
            "place": hashlib.sha256(os.fsencode(scan.image.resolve())).hexdigest()[:16],
            "study": scan.study_id,
            "reader": READER_VERSION,
        }
        if scan.series or scan.orientation:
            shaped |= {"series": scan.series, "orientation": scan.orientation}
        if scan.mask is not None:
            return {**shaped, "mask": files_fingerprint(files_of(scan.mask)), **self.options.shapes_slices()}
        labels = {str(z): label for z, label in sorted(scan.labels.items())}
        return {**shaped, "labels": labels, "unstated_orientation": self.options.unstated_orientation}

    def __getstate__(self) -> dict[str, Any]:
        # Of the scans, a process that reads needs no more than what was found has.
        return {name: value for name, value in vars(self).items() if name != "_usable"}

    @property
    def named(self) -> bool:
        """Whether a manifest names the scans and their patients."""
        place = self._place()
        return place is not None and not place.is_dir()

    def _near(self) -> list[Path]:
        """Folders in which a dataset.json would speak of these scans."""
        given = [spelt_out(place) for place in (self._place(), self.options.masks) if place is not None]
        return list(dict.fromkeys(near for one in given for near in (one, one.parent)))

    def _named_folders(self) -> list[Path]:
        """The folders of the images that a manifest names, and those around them; none without a manifest."""
        images = [spelt_out(scan.image) for scan in self._usable] if self.named else []
        return list(dict.fromkeys(near for one in images for near in (one.parent, one.parent.parent)))

    def _place(self) -> Path | None:
        """The folder of images, or the manifest."""
        options = self.options
        place = options.data or options.images or options.manifest
        return None if place is None else place.expanduser()

    @cached_property
    def _usable(self) -> list[OwnScan]:
        options, place = self.options, self._place()
        if place is None:
            raise UsageError("The benchmark folder needs scans, and none were named.", _HOW_TO_GIVE)
        if options.manifest is not None and place.is_dir():
            raise UsageError(f"The manifest {place} is a folder.", _HOW_TO_GIVE)
        return usable_scans(
            place,
            masks=None if options.masks is None else options.masks.expanduser(),
            labels=None if options.labels is None else options.labels.expanduser(),
            organ=options.organ,
            patient_pattern=options.patient_pattern,
        )
