"""An external cohort by its path, as ``--queries`` names it (the paper's UNN protocol, section 8)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cbirbench.datasets.folder import Folder, FolderOptions
from cbirbench.datasets.own_scans import OwnScan
from cbirbench.datasets.scan_names import safe_name
from cbirbench.datasets.text_tables import TABLE_ENDINGS, listing
from cbirbench.errors import DataWarning, UsageError
from cbirbench.interfaces import Options
from cbirbench.settings import validated

_PLACES = ("data", "images", "masks", "manifest", "labels")


@dataclass(frozen=True)
class Cohort:
    """A cohort whose scans are all queries.

    Attributes:
        name: What results call it: letters, digits, ``.``, ``_`` and ``-``.
        benchmark: Reads it; all its sources are queries.
    """

    name: str
    benchmark: Folder


class QueryFolder(Folder):
    """Scans of one's own, all of them queries."""

    def split(self, scans: Sequence[OwnScan]) -> list[OwnScan]:
        """All scans as queries, but for those that a manifest has in the gallery: they are left out.

        Several scans that are all of one patient are warned of, unless a manifest says so.

        Raises:
            UsageError: A manifest has all of them in the gallery.
        """
        left_out = [scan.volume_id for scan in scans if scan.split == "gallery"]
        if left_out and len(left_out) == len(scans):
            raise UsageError(
                f"All {len(scans)} scans of the manifest are of the split gallery; queries are wanted.",
                "Mark some as query, or remove the column split to take all of them.",
            )
        if left_out:
            warnings.warn(
                f"{len(left_out)} scans that the manifest has in the gallery are no queries and left out: "
                f"{listing(left_out)}.",
                DataWarning,
                stacklevel=2,
            )
        patients = {scan.patient_id for scan in scans}
        if len(scans) > 1 and len(patients) == 1 and not self.named:
            warnings.warn(
                f"All {len(scans)} scans of the cohort are taken to be of one patient, {patients.pop()!r}. "
                "If they are not, say how scans' ids tell patients, for instance with "
                "--set folder.patient_pattern='^([^_]+)', or name them in a manifest.",
                DataWarning,
                stacklevel=2,
            )
        return [replace(scan, split="query") for scan in scans if scan.split != "gallery"]


def cohort_of(text: str, options: Options | None = None, **changes: Any) -> Cohort:
    """Open the cohort that ``[NAME=]PATH`` names.

    PATH is a folder that `cbirbench.datasets.discovery.find_scans` understands (the Decathlon's layout,
    images with masks, DICOM), with labels of slices in ``slice_labels.csv`` or ``labels.csv`` where there are
    no masks; or a manifest. Scans with masks give 5 slices with the target and 5 without, or what there is of
    them; scans without give all labelled slices.

    Args:
        text: The path, or a name for the results, ``=`` and the path. Without a name it is the folder's or
            file's own.
        options: Those of the benchmark `folder`; what they say of places is not used.
        **changes: Single options that outrank them.

    Raises:
        UsageError: There is no such folder or manifest, the name is empty, or an option does not fit.
    """
    name, named, rest = text.partition("=")
    if not named or Path(text).expanduser().exists():
        named, rest = "", text
    place = Path(rest).expanduser()
    if not rest.strip() or not place.exists():
        raise UsageError(
            f"The cohort {text!r} is not there.", "Give a folder or a manifest: PATH, or NAME=PATH."
        )
    if not place.is_dir() and place.suffix.lower() not in TABLE_ENDINGS:
        raise UsageError(
            f"The cohort {rest} is neither a folder nor a manifest ({', '.join(TABLE_ENDINGS)}).",
            "Give the folder that holds the scans. For a single scan there is `cbirbench query`.",
        )
    given = {} if options is None else options.model_dump(exclude=set(_PLACES))
    made = validated(FolderOptions, {**given, **changes, "data": place}, "folder")
    assert isinstance(made, FolderOptions)
    own = place.resolve()
    called = safe_name(name if named else own.name if own.is_dir() else own.stem)
    if not called:
        raise UsageError(
            f"{text!r} gives the cohort no name of letters or digits.", "Give one: --queries NAME=PATH."
        )
    return Cohort(called, QueryFolder(made))
