"""From a scan on disk to the slices that enter a benchmark, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.datasets.sampling import TooFew, draw_slices
from cbirbench.errors import DataError
from cbirbench.scans.volume import Volume
from cbirbench.slices import CTSlice, Slices, target_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ScanIdentity:
    """What a scan's slices are known by.

    Attributes:
        volume_id: Unique in the benchmark.
        patient_id: Pseudonym of the patient.
        study_id: The examination.
    """

    volume_id: str
    patient_id: str
    study_id: str


@dataclass(frozen=True)
class Drawing:
    """How slices are drawn from a scan with a mask (section 6.1: 5 with liver and 5 without).

    Attributes:
        slices_per_kind: Slices with the target organ, and as many without.
        slice_seed: Seed of the drawing.
        targets: The mask's values that are the target organ; empty: all above 0.
        too_few: What to do with a scan that has fewer slices of a kind.
        organ: What the target is called, for messages.
        benchmark: Whose options these are, for messages.
    """

    slices_per_kind: int = 5
    slice_seed: int = 0
    targets: tuple[int, ...] = ()
    too_few: TooFew = "refuse"
    organ: str = "target organ"
    benchmark: str = "BENCHMARK"


def drawn_slices(scan: ScanIdentity, image: Volume, mask: Volume, drawing: Drawing) -> Slices:
    """Draw slices of a scan by its mask and read them; the mask is read first, and says which.

    Raises:
        DataError: A file is damaged, image and mask do not match, the mask has no target organ or too few
            slices of a kind, or the values are no Hounsfield units.
    """
    segmentation = mask.read_mask(image)
    # One plane at a time: a whole volume's comparison would be as large as the volume.
    shows_target = np.array([bool(target_pixels(plane, drawing.targets).any()) for plane in segmentation])
    positions = _draw(scan, shows_target, mask, drawing)
    drawn = segmentation[positions]
    del segmentation
    labels = {z: int(shows_target[z]) for z in positions}
    return slices_at(scan, image, labels, masks=drawn, targets=drawing.targets)


def slices_at(
    scan: ScanIdentity,
    image: Volume,
    labels: Mapping[int, int],
    *,
    masks: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | None = None,
    targets: tuple[int, ...] = (),
) -> Slices:
    """Read chosen slices of a scan.

    Args:
        scan: What the slices are known by.
        image: The scan.
        labels: The label of each wanted slice by its position, 0 the most inferior.
        masks: One mask a wanted slice, in ascending order of position; None where there are none.
        targets: The masks' values that are the target organ.

    Raises:
        DataError: The file is damaged, has no such slice, or its values are no Hounsfield units.
    """
    positions = sorted(labels)
    beyond = [z for z in positions if not 0 <= z < image.grid.slice_count]
    if beyond:
        raise DataError(
            f"{image.path} has slices 0 to {image.grid.slice_count - 1}, no slice {beyond[0]}.",
            "Slices are counted from 0, the most inferior, upwards.",
        )
    found = image.read_hu(positions)
    return Slices(
        tuple(
            CTSlice(
                hu=hu,
                mask=None if masks is None else np.ascontiguousarray(masks[place]),
                slice_id=f"{scan.volume_id}_z{z:04d}",
                patient_id=scan.patient_id,
                study_id=scan.study_id,
                volume_id=scan.volume_id,
                z_index=z,
                label=labels[z],
                spacing_mm=image.grid.spacing_mm,
                target_values=targets,
                volume_slices=image.grid.slice_count,
            )
            for place, (z, hu) in enumerate(zip(positions, found, strict=True))
        )
    )


def _draw(scan: ScanIdentity, shows: NDArray[np.bool_], mask: Volume, drawing: Drawing) -> list[int]:
    shown = int(shows.sum())
    fewest = min(shown, len(shows) - shown)
    if shown == 0 and drawing.too_few == "refuse":
        values = " or ".join(map(str, drawing.targets)) or "above 0"
        raise DataError(
            f"{mask.path} marks no {drawing.organ}: no voxel is {values}.",
            "Check it, or leave the scan out. Where it is right, as of a patient without it, take what there "
            f"is with --set {drawing.benchmark}.too_few=take-fewer.",
        )
    try:
        drawn = draw_slices(
            shows, drawing.slices_per_kind, drawing.slice_seed, scan.volume_id, drawing.too_few
        )
    except DataError as error:
        name = drawing.benchmark
        fewer = f"draw fewer with --set {name}.slices_per_kind={fewest}, " if fewest else ""
        raise DataError(
            f"{mask.path}: {error.problem}",
            f"To run, {fewer}take what there is with --set {name}.too_few=take-fewer, or leave the scan out: "
            "move its image and mask away, and drop it from dataset.json or the manifest.",
        ) from error
    return [int(z) for z in drawn]
