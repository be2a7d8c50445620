"""A scan's entry in check.json and its row in scans.csv."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cbirbench.checking.scan_facts import ScanCheck
from cbirbench.datasets.discovery import below
from cbirbench.plain_text import printable


def within(path: Path, folder: Path) -> str:
    """A path as seen from a folder that it lies in, else as it is."""
    return str(below(path, folder) or path)


def record(check: ScanCheck, folder: Path) -> dict[str, Any]:
    """A scan's entry in check.json."""
    scan, mask = check.scan, check.mask
    shown = sum(scan.labels.values())
    described: dict[str, Any] = {
        "volume_id": scan.volume_id,
        "patient_id": scan.patient_id,
        "study_id": scan.study_id,
        "split": scan.split,
        "image": within(scan.image, folder),
        "mask_file": None if scan.mask is None else within(scan.mask, folder),
        "labels": {"with": shown, "without": len(scan.labels) - shown} if scan.labels else None,
        "format": check.format,
        "readable": check.readable,
        "grid": None if check.grid is None else asdict(check.grid),
        "hu": None if check.hu is None else asdict(check.hu),
        "mask": None,
        "voxels_sha256": check.digest,
        "errors": check.errors,
        "warnings": check.warnings,
        "notes": check.notes,
    }
    if mask is not None:
        first, counts = mask.histogram.trimmed(10)
        described["mask"] = {
            "organ": check.organ,
            "voxels": mask.voxels,
            "ml": {value: round(ml, 3) for value, ml in mask.ml.items()},
            "organ_ml": round(mask.organ_ml, 3),
            "slices_with": mask.slices_with,
            "slices_without": mask.slices_without,
            "organ_hu_percentiles": mask.percentiles,
            "organ_hu_histogram": {"from_hu": first, "bin_hu": 10, "counts": counts},
        }
    return described


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A scan's row in scans.csv: everything but histograms; empty where it is not known.

    Control characters, of file names say, are question marks.
    """
    grid, hu, mask, labels = (row[name] or {} for name in ("grid", "hu", "mask", "labels"))
    shape, spacing = grid.get("shape", ("",) * 3), grid.get("spacing_mm", ("",) * 3)
    percentiles, organ = hu.get("percentiles", {}), mask.get("organ_hu_percentiles", {})
    cells = {
        **{
            name: row[name]
            for name in ("volume_id", "patient_id", "study_id", "split", "image", "mask_file", "format")
        },
        "readable": row["readable"],
        **dict(zip(("slices", "rows", "columns"), shape, strict=True)),
        **dict(zip(("slice_mm", "row_mm", "column_mm"), spacing, strict=True)),
        **{
            name: grid.get(name, "")
            for name in ("orientation", "stated", "tilt_degrees", "obliquity_degrees")
        },
        "hu_lowest": hu.get("lowest", ""),
        "hu_highest": hu.get("highest", ""),
        **{f"hu_p{q}": percentiles.get(q, "") for q in (1, 50, 99)},
        "padding_hu": hu.get("padding", ""),
        "mask_values": " ".join(f"{value}:{count}" for value, count in mask.get("voxels", {}).items()),
        **{name: mask.get(name, "") for name in ("organ", "organ_ml", "slices_with", "slices_without")},
        **{f"organ_hu_p{q}": organ.get(q, "") for q in (5, 50, 95)},
        **{f"labels_{kind}": labels.get(kind, "") for kind in ("with", "without")},
        **{name: " | ".join(row[name]) for name in ("errors", "warnings", "notes")},
    }
    return {name: printable(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
