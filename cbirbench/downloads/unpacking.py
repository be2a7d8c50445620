"""A task's archive unpacked as if it came from an enemy: below one folder, files and folders only, whole.

Every header is read and judged before the first byte is written. Nothing of the archive but names, contents
and times of change reaches the disk; owners and permissions do not.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cbirbench.atomic import unwritable
from cbirbench.datasets.dataset_json import listed_files
from cbirbench.downloads.download import megabytes
from cbirbench.errors import DataError, MissingError
from cbirbench.interfaces import Progress

MOST_MEMBERS = 20_000
"""The largest task has under 1,000 files."""

_LARGEST_HEADER = 1 << 20
_CHUNK = 1 << 20


class _Wary(io.BufferedReader):
    """A file from which nothing large is read at once, as headers that claim gigabytes would have it."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def unpack(archive: Path, folder: Path, task: str, progress: Progress) -> Path:
    """Unpack a task's archive; ``folder/task`` appears once all is there that its dataset.json lists.

    Args:
        archive: An uncompressed tar file.
        folder: Where the task's folder shall lie; nothing of its name is there.
        task: The one folder the archive may hold.
        progress: Where to report.

    Returns:
        The task's folder.

    Raises:
        DataError: The archive is damaged, not whole, or holds what it must not. Nothing is left of it.
        MissingError: There is no room, or a file cannot be written. Nothing is left of it.
    """
    temporary, final = folder / f".{task}.unpacking", folder / task
    try:
        _remove(temporary)  # left by an unpacking that was ended by force
        with _read_as_tar(archive) as tar:
            members = _members(tar, archive, task)
            size = sum(member.size for member, _ in members)
            check_room(folder, size, f"unpacking {archive.name}")
            temporary.mkdir()
            with megabytes(progress, f"Unpacking {archive.name}", size) as advance:
                for member, parts in members:
                    path = temporary.joinpath(*parts)
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                        continue
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as written:
                        for chunk in _content(tar, member):
                            written.write(chunk)
                            advance(len(chunk))
                        written.flush()
                        os.fsync(written.fileno())
                    # Kept, so that scans count as the same wherever they were fetched.
                    if 0 <= member.mtime < 2**32:
                        os.utime(path, (member.mtime, member.mtime))
        lacking = what_lacks(temporary / task)
        if lacking:
            raise DataError(
                f"{archive} is not the whole task: {lacking}.",
                "Move it away, and run the same command again with another mirror's --url.",
            )
        (temporary / task).rename(final)
    except OSError as error:
        raise unwritable(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def what_lacks(folder: Path) -> str:
    """What a task's folder lacks of what its dataset.json lists for training, in words; empty if nothing.

    Raises:
        DataError: dataset.json is damaged.
    """
    description = folder / "dataset.json"
    if not description.is_file():
        return "it has no dataset.json"
    listed = listed_files(description)
    absent = [path for path in listed if not path.is_file()]
    if not listed:
        return "its dataset.json lists no file for training"
    if absent:
        return (
            f"{len(absent)} of the {len(listed)} files that dataset.json lists are missing, first {absent[0]}"
        )
    return ""


def check_room(folder: Path, size: int, purpose: str) -> None:
    """Refuse what will not fit.

    Args:
        folder: A folder on the disk.
        size: Bytes that are needed there.
        purpose: What they are needed for.

    Raises:
        MissingError: Less is free.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MissingError(
            f"There is not enough room in {folder}: {purpose} takes {gigabytes(size)}, and "
            f"{gigabytes(free)} are free.",
            "Free some space, or choose a folder on another disk with --out.",
        )


def gigabytes(size: int) -> str:
    """A size in bytes, for people: 27.0 GB, or 3 MB where it is less than one GB (10^9 bytes)."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def _remove(temporary: Path) -> None:
    if temporary.is_symlink() or temporary.is_file():
        temporary.unlink()
    elif temporary.exists():
        shutil.rmtree(temporary)


@contextmanager
def _read_as_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive; what is wrong with it is an error in words."""
    try:
        with _Wary(io.FileIO(archive)) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            yield tar
    # A header's fields and chains of headers may be anything.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{archive} is damaged or no tar archive: {error or type(error).__name__}.",
            "Move it away and run the same command again.",
        ) from error


def _members(tar: tarfile.TarFile, archive: Path, task: str) -> list[tuple[tarfile.TarInfo, tuple[str, ...]]]:
    """What is to be unpacked, each with its path; all of it was judged.

    Raises:
        DataError: Something must not be there.
    """
    length = archive.stat().st_size
    members: list[tuple[tarfile.TarInfo, tuple[str, ...]]] = []
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    end = 0
    for count, member in enumerate(tar, start=1):
        wrong = ""
        path = PurePosixPath(member.name)
        parts = path.parts
        # As Windows and macOS see names: other letters' case or composition makes no other file.
        key = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        if count > MOST_MEMBERS:
            wrong = f"is one of more than {MOST_MEMBERS}"
        elif member.size < 0 or member.offset < end or member.offset_data + member.size > length:
            wrong = "claims a size that its archive does not have"
        elif not (member.isreg() or member.isdir()) or member.issparse():
            wrong = "is neither a file nor a folder, but a link, a device or the like"
        elif path.is_absolute() or ".." in parts or any(set("\\:\0") & set(part) for part in parts):
            wrong = "has a path that leads out of its folder"
        elif not member.name.isprintable():
            wrong = "has a control character in its name"
        end = member.offset_data + member.size
        if not wrong and (not parts or any(part.startswith("._") or part == ".DS_Store" for part in parts)):
            continue  # the archive's own folder, or what macOS leaves beside files
        if not wrong and parts[0] != task:
            wrong = f"lies outside the folder {task}"
        above = {key[:depth] for depth in range(1, len(key))}
        if not wrong and (key in files or (member.isreg() and key in folders) or above & files):
            wrong = "is there twice"
        if wrong:
            raise DataError(
                f"{archive} is not unpacked: its member {member.name[:200]!r} {wrong}.",
                "It is no archive of the Decathlon's: delete it and fetch it from its publisher.",
            )
        folders |= above
        (files if member.isreg() else folders).add(key)
        if hasattr(tarfile, "data_filter"):  # Python's own rules besides, since 3.11.4
            tarfile.data_filter(member, str(archive.parent))
        members.append((member, parts))
    return members


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None, "a regular file"
    with stream:
        left = member.size
        while left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise tarfile.ReadError(f"{member.name} ends too early")
            left -= len(chunk)
            yield chunk
