"""What can be said of a scan and its mask once they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbirbench.checking.hu_counts import HUCounts
from cbirbench.datasets.discovery import FoundScan


@dataclass(frozen=True)
class GridFacts:
    """Where a scan's voxels lie.

    Attributes:
        shape: Slices, rows and columns of the radiological view.
        spacing_mm: Distances between them, in millimetres.
        orientation: Where the stored axes point, ``LPS`` for instance.
        stated: Whether the file says so.
        tilt_degrees: The gantry's tilt.
        obliquity_degrees: Angle between the slices' normal and the patient's long axis.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    stated: bool
    tilt_degrees: float
    obliquity_degrees: float


@dataclass(frozen=True)
class HUFacts:
    """A scan's values in Hounsfield units.

    Attributes:
        lowest, highest: Over all voxels.
        percentiles: The 1st, 50th and 99th, without padding.
        padding: A value below air's that fills part of the images; None where there is none.
        padding_share: Its share of the voxels.
    """

    lowest: int
    highest: int
    percentiles: dict[int, int]
    padding: int | None
    padding_share: float


@dataclass(frozen=True)
class MaskFacts:
    """A mask.

    Attributes:
        voxels: How many voxels hold each value above 0.
        ml: Their volumes, in millilitres.
        organ_ml: The target organ's volume, in millilitres.
        slices_with: Slices that show the target organ.
        slices_without: The others.
        percentiles: The organ's 1st, 5th, 50th, 95th and 99th percentile in HU; empty without organ or HU.
        histogram: How many of the organ's voxels hold each HU value; empty likewise.
    """

    voxels: dict[int, int]
    ml: dict[int, float]
    organ_ml: float
    slices_with: int
    slices_without: int
    percentiles: dict[int, int]
    histogram: HUCounts


@dataclass
class ScanCheck:
    """All that was found of one scan; what could not be read is None.

    Attributes:
        scan: Its ids and files.
        format: ``NIfTI``, ``DICOM`` or another; of a file that is none, its ending.
        organ: What the target is called.
        grid: Where its voxels lie.
        hu: Its values.
        mask: Its mask; None where it has none, too.
        digest: SHA-256 of shape and voxels; empty where they could not be read.
        errors: Why it cannot be used.
        warnings: What is doubtful.
        notes: What else is worth knowing.
    """

    scan: FoundScan
    format: str
    organ: str
    grid: GridFacts | None = None
    hu: HUFacts | None = None
    mask: MaskFacts | None = None
    digest: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def readable(self) -> bool:
        """Whether scan and mask could be read, and all labels are of slices that it has."""
        return not self.errors
