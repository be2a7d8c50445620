"""Going through a folder and all below it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walked(
    root: Path, on_error: Callable[[Path, OSError], None], *, apart: Path | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Go through a folder and all below it; linked folders are followed, once each, hidden ones passed over.

    Args:
        root: The folder.
        on_error: Takes each folder that cannot be listed, and why.
        apart: A folder that is left out if it lies below.

    Yields:
        Folders in order of their paths, each with the names of its files and of its hidden folders in order.
    """

    def failed(error: OSError) -> None:
        on_error(Path(error.filename or root), error)

    seen = set() if apart is None else {os.path.realpath(apart)}
    for folder, below, names in os.walk(root, onerror=failed, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        hidden = [name for name in below if is_hidden(name)]
        below[:] = sorted(name for name in below if not is_hidden(name))
        yield Path(folder), sorted([*names, *hidden])


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden by its name, as files of systems and of version control are."""
    return name.startswith(".")
