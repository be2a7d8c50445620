"""What each benchmark needs, and what of it is here. No scan is read and no plugin imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cbirbench import registry
from cbirbench.downloads.archives import (
    ARCHIVES,
    DATA_VARIABLE,
    LICENCE,
    Archive,
    default_data_folder,
    is_task_folder,
)


@dataclass(frozen=True)
class Entry:
    """A benchmark and its data.

    Attributes:
        benchmark: Its name.
        needs: What it reads.
        here: Whether that is here; None where it cannot be told.
        folder: Where it was found.
        found_by: How a run finds it: ``$CBIRBENCH_DATA`` or ``default folder``; ``--data`` if only that does.
        labelled_volumes: How many masks there are.
        licence: The data's licence, if it is known.
        how: What to do to run on it.
    """

    benchmark: str
    needs: str
    here: bool | None
    folder: Path | None
    found_by: str
    labelled_volumes: int | None
    licence: str
    how: str


def inventory() -> list[Entry]:
    """The benchmarks: what needs nothing, the Decathlon's tasks, your own data, other packages' by name."""
    entries = [
        Entry("phantom", "nothing, it is synthetic", True, None, "", None, "", "cbirbench run phantom"),
        *map(_of_archive, ARCHIVES),
        Entry(
            "folder",
            "CT of your own",
            None,
            None,
            "",
            None,
            "yours",
            "cbirbench run folder --data DIR",
        ),
    ]
    shown = {entry.benchmark for entry in entries}
    for plugin in registry.installed("benchmark"):
        if not shown & set(plugin.names):
            how = f"see the documentation of {plugin.distribution}"
            entries.append(Entry(plugin.name, "its package says", None, None, "", None, "", how))
    return entries


def places() -> list[tuple[str, Path]]:
    """Where runs look for data if no option says: $CBIRBENCH_DATA if it is set, else the default folder."""
    named = os.environ.get(DATA_VARIABLE)
    set_by_user = [(f"${DATA_VARIABLE}", Path(named).expanduser())] if named else []
    return [*set_by_user, ("default folder", default_data_folder())]


def _of_archive(archive: Archive) -> Entry:
    looked_at, *not_looked_at = places()
    name, fetching = archive.benchmark, f"cbirbench data fetch {archive.benchmark}"
    folder = _task_in(looked_at[1], archive.task)
    if folder:
        return _found(archive, folder, looked_at[0], f"cbirbench run {name}")
    for _, place in not_looked_at:
        folder = _task_in(place, archive.task)
        if folder:
            return _found(archive, folder, "--data", f"cbirbench run {name} --data {folder}")
    return Entry(name, archive.task, False, None, "", None, LICENCE, fetching)


def _found(archive: Archive, folder: Path, found_by: str, how: str) -> Entry:
    try:
        labels = [path for path in (folder / "labelsTr").iterdir() if path.name.endswith((".nii.gz", ".nii"))]
    except OSError:
        labels = []
    count = sum(not path.name.startswith(".") for path in labels)
    how = how if count else f"cbirbench data fetch {archive.benchmark}"
    return Entry(archive.benchmark, archive.task, count > 0, folder, found_by, count, LICENCE, how)


def _task_in(place: Path, task: str) -> Path | None:
    """A task's folder: the place itself or one below it, by how its name begins, as readers find it."""
    try:
        if is_task_folder(place):
            return place if place.name.startswith(task) else None
        found = sorted(path for path in place.glob(f"{task}*") if is_task_folder(path))
    except OSError:
        return None
    return found[0] if found else None
