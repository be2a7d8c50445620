"""A large file from the web: resumed where it broke off, and checked by its hash before it gets its name.

While it comes, ``NAME.part`` holds what has arrived and ``NAME.part.json`` what the server said of the file,
so that no two versions of a file are ever joined. pooch, which does the rest as well, does not resume.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cbirbench.atomic import unwritable, write_text
from cbirbench.downloads.https import OutOfRangeError, PassingError, answer, check_address, in_words, shown
from cbirbench.errors import DataError, MissingError
from cbirbench.interfaces import Progress

WAITS_S = (1.0, 4.0, 15.0, 30.0)
"""How long to wait before each further attempt; after the last, the command fails."""

_CHUNK = 1 << 20
_MEGABYTE = 10**6
_GOES_ON = "What has arrived is kept: the same command goes on from there. Another mirror: --url."


@dataclass(frozen=True)
class _Origin:
    """What a server said of the file that a part belongs to."""

    url: str
    bytes: int
    validator: str


class _Part:
    """What has arrived of a file, with its hash so far."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.json")
        self.digest = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self.origin: _Origin | None = None
        if self.file.is_file():
            self.origin = self._recorded()
            self.size = self.file.stat().st_size

    @property
    def whole(self) -> bool:
        return self.origin is not None and self.size == self.origin.bytes

    def _recorded(self) -> _Origin | None:
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
            return _Origin(str(found["url"]), int(found["bytes"]), str(found["validator"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def discard(self) -> None:
        for path in (self.file, self.record):
            with _written(path):
                path.unlink(missing_ok=True)
        self.size, self.origin = 0, None
        self.digest = hashlib.md5(usedforsecurity=False)

    def belongs_to(self, origin: _Origin) -> None:
        write_text(self.record, json.dumps(asdict(origin)))
        self.origin = origin

    def take(self, chunks: Iterator[bytes], advance: Callable[[int], None]) -> None:
        assert self.origin is not None
        with _written(self.file), self.file.open("ab") as stream:
            for chunk in chunks:
                if self.size + len(chunk) > self.origin.bytes:
                    raise PassingError(f"more came than the {self.origin.bytes} bytes announced")
                stream.write(chunk)
                self.digest.update(chunk)
                self.size += len(chunk)
                advance(len(chunk))


def download(
    url: str, path: Path, *, md5: str, progress: Progress, begin: Callable[[int, int], None]
) -> None:
    """Fetch a file; it is at `path` once it is whole and its hash is right, and not before.

    Args:
        url: Its address: https, or http on this machine.
        path: Where to put it; the folder is there.
        md5: Its MD5 in hexadecimal.
        progress: Where to report.
        begin: Called once with the file's size and how much of it is here, in bytes, before more is fetched.
            What it raises ends the download.

    Raises:
        UsageError: The address is of another kind.
        MissingError: The server cannot be reached, refuses, or breaks off again and again; or a file cannot
            be written. What has arrived is kept.
        DataError: The hash is another. What has arrived is removed.
    """
    check_address(url)
    part = _Part(path)
    if part.size and (part.origin is None or part.size > part.origin.bytes):
        progress.note(f"{part.file} is of unknown origin: the download starts again.")
        part.discard()
    if part.size:
        with megabytes(progress, "Reading what is here", part.size) as advance:
            part.digest = _hashed(part.file, advance)
    if part.whole:
        begin(part.size, part.size)
    else:
        _receive(url, part, progress, begin)
    found = part.digest.hexdigest()
    if found != md5:
        size = part.size
        part.discard()
        raise DataError(
            f"{shown(url)} has the MD5 {found} ({size} bytes), but {path.name} has {md5}: it was damaged on "
            "the way, or is another file. It was removed.",
            "Run the same command again; if that ends alike, give another mirror's address with --url.",
        )
    with _written(path):
        part.file.replace(path)
        part.record.unlink(missing_ok=True)


def file_md5(path: Path, progress: Progress) -> str:
    """A file's MD5 in hexadecimal.

    Raises:
        MissingError: It cannot be read.
    """
    with megabytes(progress, f"Checking {path.name}", path.stat().st_size) as advance:
        return str(_hashed(path, advance).hexdigest())


@contextmanager
def megabytes(progress: Progress, title: str, size: int) -> Iterator[Callable[[int], None]]:
    """A step of so many bytes, shown in megabytes (10^6 bytes)."""
    done = 0
    with progress.stage(f"{title} (MB)", max(1, size // _MEGABYTE)) as advance:

        def count(more: int) -> None:
            nonlocal done
            advance((done + more) // _MEGABYTE - done // _MEGABYTE)
            done += more

        yield count


def _hashed(path: Path, advance: Callable[[int], None]) -> Any:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                advance(len(chunk))
    except OSError as error:
        raise MissingError(
            f"{path} could not be read: {error.strerror or error}.",
            "Move it away and run the same command again.",
        ) from error
    return digest


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _receive(url: str, part: _Part, progress: Progress, begin: Callable[[int, int], None]) -> None:
    """Receive what is missing, in several attempts if need be."""
    failures, farthest, begun = 0, part.size, False
    while True:
        try:
            with _asked(url, part, first=not begun) as response:
                origin = _offered(url, response, part)
                continues = response.status == http.HTTPStatus.PARTIAL_CONTENT
                if part.size and not continues:
                    same = part.origin and part.origin.bytes == origin.bytes
                    why = "The server cannot resume" if same else "The file there is another by now"
                    progress.note(f"{why}: the download starts again.")
                    part.discard()
                if not begun:
                    begin(origin.bytes, part.size)
                    begun = True
                part.belongs_to(origin)
                title = f"Downloading {part.file.name.removesuffix('.part')}"
                with megabytes(progress, title, origin.bytes - part.size) as advance:
                    part.take(_chunks(response), advance)
            if part.whole:
                return
            reason = "it ended too early"
        except PassingError as error:
            reason = str(error)
        # Attempts are counted anew only where one got further than any before it, or a server that always
        # starts again and breaks off would be asked for ever.
        failures = 1 if part.size >= farthest + _CHUNK else failures + 1
        farthest = max(farthest, part.size)
        if failures > len(WAITS_S):
            raise MissingError(
                f"The transfer from {shown(url)} broke off {failures} times, at last with "
                f"{part.size} bytes here: {reason}.",
                _GOES_ON,
            )
        wait = WAITS_S[failures - 1]
        progress.note(
            f"The transfer broke off with {part.size} bytes here ({reason}); trying again in {wait:.0f} s."
        )
        time.sleep(wait)


def _asked(url: str, part: _Part, *, first: bool) -> http.client.HTTPResponse:
    """Ask for the file, or for what is missing of it."""
    headers = {}
    if part.size and part.origin:
        headers["Range"] = f"bytes={part.size}-"
        # Another mirror's validators are its own; that it has the same file is for size and hash to tell.
        if part.origin.url == shown(url) and part.origin.validator:
            headers["If-Range"] = part.origin.validator
    try:
        return answer(url, headers, first=first)
    except OutOfRangeError as error:
        part.discard()
        raise PassingError("the file there is another by now") from error


def _offered(url: str, response: http.client.HTTPResponse, part: _Part) -> _Origin:
    """What the server is about to send, and whether it goes on where the part ends."""
    headers = response.headers
    kind, coding = headers.get_content_type(), headers.get("Content-Encoding", "identity")
    if kind == "text/html" or coding != "identity":
        what = "a web page" if kind == "text/html" else f"a file encoded as {coding}"
        raise MissingError(
            f"{shown(url)} answered with {what} instead of an archive.",
            "Check the address; on a network that asks to log in, do that first.",
        )
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", "").strip())
        begins, size = (int(given[1]), int(given[3])) if given else (-1, -1)
        if part.origin is None or begins != part.size or size != part.origin.bytes:
            part.discard()
            raise PassingError("the file there is another by now")
    else:
        length = headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise MissingError(
                f"{shown(url)} does not say how large the file is.",
                "Give another mirror's address with --url.",
            )
        size = int(length)
    return _Origin(shown(url), size, validator)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(in_words(error)) from error
        if not chunk:
            return
        yield chunk
