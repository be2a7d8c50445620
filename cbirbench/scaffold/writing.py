"""A new distribution's folder, written whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from cbirbench.atomic import unwritable
from cbirbench.errors import UsageError
from cbirbench.registry import Kind
from cbirbench.scaffold.names import checked
from cbirbench.scaffold.rendering import class_names, rendered


def new_distribution(name: str, kind: Kind, out: Path, author: str = "") -> Path:
    """Write the distribution of a new plugin.

    Args:
        name: The plugin's name.
        kind: What it is.
        out: The folder to put the distribution's in; made where it is not there.
        author: Whom its licence and its card name.

    Returns:
        The distribution's folder, ``out/cbirbench-NAME``.

    Raises:
        UsageError: The name or the author's cannot be taken, or something is there already.
        MissingError: The folder cannot be written.
    """
    taken = checked(name, kind, class_names(kind))
    files = rendered(kind, taken, author)
    folder = out / taken.distribution
    try:
        _check_free(folder)
        _write(files, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            f"{folder} is there already, and is no folder.", "Give another --out or another name."
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is already there, and not empty.",
            "Nothing was changed. Give another --out or another name, or remove the folder first.",
        )


def _write(files: Mapping[str, str], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".part-{secrets.token_hex(6)}-{folder.name}")
    try:
        for path, text in files.items():
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        if folder.is_dir():
            folder.rmdir()  # empty: some systems rename onto no folder that is there
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
