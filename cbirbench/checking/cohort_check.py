"""`cbirbench data check`: every scan of a folder read and looked at, before anything is computed from it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cbirbench import __version__
from cbirbench.atomic import unwritable, write_text
from cbirbench.checking.cohort_scans import cohort_scans, organs_of
from cbirbench.checking.scan_check import check_scan
from cbirbench.checking.scan_facts import ScanCheck
from cbirbench.checking.scan_views import View
from cbirbench.datasets.discovery import DAMAGED
from cbirbench.datasets.scan_options import ScanOptions
from cbirbench.errors import UsageError
from cbirbench.figures.cohort_grid import NOTICE, SCANS_PER_PAGE, GridRow, draw_cohort_grid
from cbirbench.interfaces import Progress
from cbirbench.plain_text import many
from cbirbench.report.cohort_records import flat, record, within

CHECK_FILE = "check.json"
TABLE_FILE = "scans.csv"

FEWEST_TO_COMPARE = 3
"""Below so many scans there is no majority to differ from."""

OTHER_SPACING = 2.0
"""Slices or pixels this many times as far apart as the cohort's median are worth a note."""

_OWN_FILE = re.compile(r"check\.json|scans\.csv|grid-\d+\.png|\.part-.*")


@dataclass(frozen=True)
class CheckRequest:
    """What to check.

    Attributes:
        place: The cohort: a folder, or a manifest that names its scans.
        masks: Where the masks of a folder are, if not beside the images.
        options: How scans and masks are read, and what of a mask is the target.
        organ: What the target is called; empty: liver where a folder's name or its dataset.json says so.
        out: Folder for the files.
    """

    place: Path
    masks: Path | None
    options: ScanOptions
    organ: str
    out: Path


@dataclass(frozen=True)
class CohortCheck:
    """What a folder holds and what is wrong with it.

    Attributes:
        folder: What paths are told from: the cohort's folder, or its manifest's.
        scans: Each scan.
        ignored: What is neither scan nor mask nor the table of labels, each with the reason.
        warnings: What is doubtful about the folder itself, its manifest or its table of labels.
        pictures: Names of the pages of the picture grid.
    """

    folder: Path
    scans: tuple[ScanCheck, ...]
    ignored: tuple[tuple[Path, str], ...]
    warnings: tuple[str, ...]
    pictures: tuple[str, ...]

    @property
    def damaged(self) -> list[tuple[Path, str]]:
        """Files that may have been scans or masks and cannot be told, each with the reason."""
        return [(path, why.removeprefix(DAMAGED)) for path, why in self.ignored if why.startswith(DAMAGED)]

    @property
    def unreadable(self) -> int:
        """Scans that, or whose masks, could not be read."""
        return sum(not check.readable for check in self.scans)

    @property
    def doubtful(self) -> int:
        """Scans with warnings."""
        return sum(bool(check.warnings) for check in self.scans)

    def counts(self) -> dict[str, int]:
        """Scans by what can be said of them."""
        return {
            "scans": len(self.scans),
            "patients": len({check.scan.patient_id for check in self.scans}),
            "with_mask": sum(check.scan.mask is not None for check in self.scans),
            "with_labels": sum(bool(check.scan.labels) for check in self.scans),
            "readable": len(self.scans) - self.unreadable,
            "unreadable": self.unreadable,
            "with_warnings": self.doubtful,
            "damaged_files": len(self.damaged),
            "ignored_files": len(self.ignored),
        }

    def passed(self, *, strict: bool) -> bool:
        """Whether everything is readable and, if strict, nothing is doubtful."""
        return not self.unreadable and not self.damaged and not (strict and (self.doubtful or self.warnings))


def check_cohort(request: CheckRequest, progress: Progress) -> CohortCheck:
    """Read every scan of a cohort, one at a time, and write table and pictures.

    Raises:
        UsageError: The cohort is neither a folder nor a manifest, the folder of the masks is none, or `out`
            holds other files.
        DataError: The folder holds no scan, or the manifest or the table of labels is faulty.
        MissingError: A file cannot be written.
    """
    _check_free(request.out)
    found = cohort_scans(request.place, request.masks, request.organ)
    organs, doubts = organs_of(found.folder, [scan.image for scan in found.scans])
    checks: list[ScanCheck] = []
    rows: list[GridRow] = []
    pages = -(-len(found.scans) // SCANS_PER_PAGE)
    pictures = tuple(f"grid-{page:0{max(2, len(str(pages)))}d}.png" for page in range(1, pages + 1))
    with progress.stage("Checking scans", len(found.scans)) as advance:
        for scan, organ in zip(found.scans, organs, strict=True):
            check, views = check_scan(scan, request.options, request.organ or organ)
            if scan.volume_id in found.left_out:
                check.warnings.append(
                    "It has neither mask nor labels of slices, as others have: a run leaves it out."
                )
            checks.append(check)
            rows.append(_row(check, views))
            if len(rows) == SCANS_PER_PAGE or len(checks) == len(found.scans):
                _draw_page(request.out, pictures, (len(checks) - 1) // SCANS_PER_PAGE, rows, checks)
                rows = []  # a page's pictures at a time are in memory
            advance(1)
    counted = [len(check.warnings) for check in checks]
    _compare(checks)
    for page in range(pages):
        of_page = slice(page * SCANS_PER_PAGE, (page + 1) * SCANS_PER_PAGE)
        if counted[of_page] != [len(check.warnings) for check in checks[of_page]]:
            # Rare, so its scans are read again: all pages' pictures would not fit into memory.
            rows = [
                _row(check, check_scan(check.scan, request.options, check.organ)[1])
                for check in checks[of_page]
            ]
            _draw_page(request.out, pictures, page, rows, checks[of_page])
    warnings = (*found.doubts, *doubts)
    cohort = CohortCheck(found.folder, tuple(checks), found.ignored, warnings, pictures)
    _write(cohort, request.out)
    return cohort


def default_out(place: Path) -> Path:
    """Where the files go if nothing else is said: a folder here, named after the cohort."""
    called = place.resolve().name if place.is_dir() else place.stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", called).strip("-._")
    return Path(f"data-check-{name}" if name else "data-check")


def _check_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file.", "Name a folder.")
    try:
        others = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise unwritable(out, error) from error
    others = [name for name in others if not _OWN_FILE.fullmatch(name)]
    if others:
        raise UsageError(
            f"--out {out} holds other files than a check's, {others[0]!r} for one.",
            "Name a new or an empty folder.",
        )


def _row(check: ScanCheck, views: tuple[View, ...]) -> GridRow:
    return GridRow(check.scan.volume_id, " · ".join(grid_facts(check)), views, "\n".join(check.errors))


def grid_facts(check: ScanCheck) -> Iterator[str]:
    """A scan's format and grid, in words."""
    yield check.format
    if check.grid is not None:
        grid = check.grid
        yield "×".join(map(str, grid.shape))
        yield "×".join(f"{mm:.3g}" for mm in grid.spacing_mm) + " mm"
        yield f"stored {grid.orientation}" + ("" if grid.stated else " (not stated)")
    if check.warnings:
        yield many(len(check.warnings), "warning")


def _draw_page(
    out: Path, pictures: Sequence[str], page: int, rows: Sequence[GridRow], checks: Sequence[ScanCheck]
) -> None:
    organs = {check.organ for check in checks[-len(rows) :] if check.mask is not None}
    organ = organs.pop() if len(organs) == 1 else "target organ"
    of = f", page {page + 1} of {len(pictures)}" if len(pictures) > 1 else ""
    draw_cohort_grid(rows, out / pictures[page], title=f"Scans as they are read{of}", organ=organ)


def _compare(checks: Sequence[ScanCheck]) -> None:
    """Add what only shows beside the other scans: the same voxels twice, another orientation or spacing."""
    same = defaultdict(list)
    for check in checks:
        if check.digest:
            same[check.digest].append(check)
    for twins in same.values():
        for check in twins if len(twins) > 1 else ():
            others = ", ".join(twin.scan.volume_id for twin in twins if twin is not check)
            check.warnings.append(f"It holds the same voxels as {others}: one scan, twice in the cohort.")
    placed = [(check, check.grid) for check in checks if check.grid is not None]
    if len(placed) < FEWEST_TO_COMPARE:
        return
    (usual, times), *_ = Counter(grid.orientation for _, grid in placed).most_common()
    middle = [median(grid.spacing_mm[axis] for _, grid in placed) for axis in range(3)]
    for check, grid in placed:
        if grid.orientation != usual and 2 * times > len(placed):
            check.notes.append(f"It is stored as {grid.orientation}, most others as {usual}.")
        for name, axis in (("Slices", 0), ("Pixels", 1)):
            mm, usually = grid.spacing_mm[axis], middle[axis]
            if max(mm / usually, usually / mm) >= OTHER_SPACING:
                check.notes.append(f"{name} lie {mm:.3g} mm apart, in the cohort {usually:.3g} mm (median).")


def _write(cohort: CohortCheck, out: Path) -> None:
    rows = [record(check, cohort.folder) for check in cohort.scans]
    described = {
        "format": 1,
        "cbirbench": __version__,
        "folder": str(cohort.folder),
        "notice": NOTICE,
        "counts": cohort.counts(),
        "warnings": list(cohort.warnings),
        "scans": rows,
        "ignored": [
            {"file": within(path, cohort.folder), "reason": reason} for path, reason in cohort.ignored
        ],
        "pictures": list(cohort.pictures),
    }
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    lines = [flat(row) for row in rows]
    table.writerow(lines[0])
    table.writerows(line.values() for line in lines)
    write_text(out / TABLE_FILE, text.getvalue())
    entries = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    # Bytes of a file's name that are no UTF-8 become JSON's escapes.
    write_text(out / CHECK_FILE, entries.encode("utf-8", "backslashreplace").decode("utf-8"))
    for old in out.glob("grid-*.png"):  # of an earlier check of more scans
        if _OWN_FILE.fullmatch(old.name) and old.name not in cohort.pictures:
            old.unlink(missing_ok=True)
