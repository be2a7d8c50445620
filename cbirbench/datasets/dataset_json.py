"""A Decathlon task's dataset.json: which files there are, and what the values of their masks mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cbirbench.errors import DataError


def listed_files(path: Path) -> list[Path]:
    """The training files that a dataset.json lists; none without one, as the folders say what there is.

    Raises:
        DataError: It is damaged or of another kind.
    """
    if not path.is_file():
        return []
    with _description(path) as described:
        return [path.parent / entry[kind] for entry in described["training"] for kind in ("image", "label")]


def listed_names(path: Path) -> dict[int, str]:
    """The masks' values that a dataset.json names, ``{"1": "liver"}`` or ``{"liver": 1}``; none without one.

    Raises:
        DataError: It is damaged or of another kind.
    """
    if not path.is_file():
        return {}
    names = {}
    with _description(path) as described:
        for key, entry in described.get("labels", {}).items():
            value, name = (int(key), entry) if key.isdecimal() else (entry, key)
            # nnU-Net also names sets of values, which are no structures of their own.
            if isinstance(value, int) and value > 0:
                names[value] = str(name)
    return names


def says_synthetic(path: Path) -> bool:
    """Whether a dataset.json says that a program made the scans, as `cbirbench data phantom` writes it.

    Raises:
        DataError: It is damaged or of another kind.
    """
    if not path.is_file():
        return False
    with _description(path) as described:
        return str(described.get("description", "")).lower().startswith("synthetic")


@contextmanager
def _description(path: Path) -> Iterator[Any]:
    """What a dataset.json holds; errors on the way to it and in what is read from it are the file's."""
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no Decathlon dataset.json: {error!r}.", "Copy it again, or move it away."
        ) from error
