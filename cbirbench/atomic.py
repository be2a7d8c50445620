"""Writing files whole: to a temporary name first, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cbirbench.errors import MissingError

REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another place, and run the same command again.",
    errno.EDQUOT: "The quota is used up: free some space and run the same command again.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder on a disk that can be written to.",
    errno.ENOTDIR: "A part of that path is a file: choose another path.",
    errno.EEXIST: "A part of that path is a file: choose another path.",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place, else it is removed.

    The temporary name ends as `path` does, for writers that go by the ending. Parent folders are made.

    Raises:
        MissingError: The file cannot be written: no space, no permission.
    """
    temporary = path.with_name(f".part-{secrets.token_hex(6)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # nothing to remove, or no way to it
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> MissingError:
    """Say in a user's words why a file could not be written."""
    reason = error.strerror or str(error)
    return MissingError(
        f"{path} could not be written: {reason}.",
        REMEDIES.get(error.errno or 0, "Check the disk and the path, then run the same command again."),
    )


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
