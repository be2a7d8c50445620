"""`cbirbench data fetch`: a Decathlon task's archive downloaded, checked, unpacked, and gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cbirbench.atomic import unwritable
from cbirbench.downloads.archives import CITATION, LICENCE, LICENCE_TEXT, Archive, is_task_folder
from cbirbench.downloads.download import download, file_md5
from cbirbench.downloads.https import check_address, shown
from cbirbench.downloads.unpacking import check_room, gigabytes, unpack, what_lacks
from cbirbench.errors import DataError, MissingError, UsageError
from cbirbench.interfaces import Progress


def fetch(
    archive: Archive,
    folder: Path,
    *,
    url: str = "",
    keep_archive: bool = False,
    progress: Progress,
    say: Callable[[str], None],
) -> Path:
    """Bring a task of the Decathlon here; what is here already is not fetched again.

    Args:
        archive: The task.
        folder: The data folder; the task's folder is made in it. It may be the task's folder itself.
        url: Another address of the same archive.
        keep_archive: Keep the archive beside the task's folder.
        progress: Where to report.
        say: Takes the lines that say what is about to be done.

    Returns:
        The task's folder, whole.

    Raises:
        UsageError: The address is not https, or the folder is another task's.
        MissingError: No network, no room, a server that refuses, a folder that cannot be written to, or
            another process that is at it.
        DataError: What came is damaged or holds what it must not; or what is here already is not whole.
    """
    url = url or archive.url
    check_address(url)
    folder = folder.expanduser().absolute()
    try:
        if is_task_folder(folder):
            if folder.name != archive.task:
                raise UsageError(
                    f"{folder} is itself a task's folder, so {archive.task} is not put into it.",
                    "Choose the folder that shall hold the tasks with --out.",
                )
            folder = folder.parent
        final = folder / archive.task
        if _is_here(final):
            say(f"{final} is here already, and whole.")
            return final
        with _alone(folder, archive.task):
            if not _is_here(final):  # else another process has just finished
                packed = folder / f"{archive.task}.tar"
                _bring(archive, url, packed, progress, say)
                unpack(packed, folder, archive.task, progress)
                if not keep_archive:
                    packed.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    return final


def _bring(archive: Archive, url: str, packed: Path, progress: Progress, say: Callable[[str], None]) -> None:
    """Have the archive here, with the right hash: downloaded, unless it is here."""
    final = packed.with_suffix("")
    if packed.exists():
        _announce(archive, str(packed), final, say)
        found = file_md5(packed, progress)
        if found != archive.md5:
            raise DataError(
                f"{packed} has the MD5 {found}, but {packed.name} has {archive.md5}: it is damaged, not "
                "whole, or another file.",
                "Move it away and run the same command again.",
            )
        return

    def begin(size: int, here: int) -> None:
        _announce(archive, shown(url), final, say)
        here_already = f" ({gigabytes(here)} of it are here already)" if here else ""
        say(f"  size      {gigabytes(size)} to download{here_already}, about as much again unpacked")
        # A tar file of compressed scans takes as much unpacked.
        purpose = f"{archive.task} ({gigabytes(size - here)} to download, {gigabytes(size)} to unpack)"
        check_room(packed.parent, 2 * size - here, purpose)

    download(url, packed, md5=archive.md5, progress=progress, begin=begin)


def _announce(archive: Archive, source: str, final: Path, say: Callable[[str], None]) -> None:
    say(f"{archive.task} of the Medical Segmentation Decathlon, for the benchmark {archive.benchmark}")
    say(f"  licence   {LICENCE}, {LICENCE_TEXT}")
    say(f"  to cite   {CITATION}")
    say(f"  from      {source}")
    say(f"  to        {final}")


def _is_here(final: Path) -> bool:
    """Whether the task's folder is there.

    Raises:
        DataError: It is, but it is not whole.
    """
    if not (final.exists() or final.is_symlink()):
        return False
    lacking = what_lacks(final) if final.is_dir() else "it is no folder"
    if lacking:
        raise DataError(
            f"{final} is here, but is not the whole task: {lacking}.",
            "Move it away to have it fetched again, or choose another folder with --out.",
        )
    return True


@contextmanager
def _alone(folder: Path, task: str) -> Iterator[None]:
    """Make the folder, and keep other processes from fetching the same task into it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f".{task}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise MissingError(
            f"Another process is fetching {task} into {folder}.", "Wait until it is done, or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()
