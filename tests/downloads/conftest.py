"""A mirror on this machine that serves one file as well, or as badly, as a test wants."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any

import pytest


class Mirror:
    """What is served, how, and what was asked for.

    Attributes:
        content: The file.
        etag, modified: Its validators; empty for none.
        ranges: Whether it can serve a part.
        next: What to do at the coming requests instead of answering well: a status, ``cut N`` (break off
            after N bytes), ``html``, ``endless`` (no length), ``silent``, or an address to redirect to.
        asked: The headers of each request.
        sent: How many bytes of the file were put out at each request.
        over: Set when the test is over, which is when a silent answer ends.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/file.tar"
        self.content = b""
        self.etag, self.modified = '"one"', ""
        self.ranges = True
        self.next: list[int | str] = []
        self.asked: list[dict[str, str]] = []
        self.sent: list[int] = []
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror = self.mirror
        mirror.asked.append(dict(self.headers))
        how = mirror.next.pop(0) if mirror.next else ""
        if isinstance(how, int):
            self.send_response(how)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "://" in how:
            self.send_response(302)
            self.send_header("Location", how)
            self.end_headers()
            return
        if how == "silent":
            mirror.over.wait(60)
            self.close_connection = True
            return
        self._file(mirror, how)

    def _file(self, mirror: Mirror, how: str) -> None:
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        held = self.headers.get("If-Range")
        if mirror.ranges and wanted and held in (None, mirror.etag, mirror.modified):
            start, status = int(wanted[1]), 206
        if start >= len(mirror.content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(mirror.content)}")
            self.end_headers()
            return
        body = mirror.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if how == "html" else "application/x-tar")
        if how != "endless":
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            last = len(mirror.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(mirror.content)}")
        if mirror.etag:
            self.send_header("ETag", mirror.etag)
        if mirror.modified:
            self.send_header("Last-Modified", mirror.modified)
        self.end_headers()
        if how.startswith("cut"):
            body = body[: int(how.split()[1])]
            self.close_connection = True
        mirror.sent.append(len(body))  # before the client can have it all and look
        self.wfile.write(body)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves `content`; nobody waits between attempts."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Mirror(server.server_address[1])
        server.RequestHandlerClass = type("Bound", (Handler,), {"mirror": found})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        found.over.set()
        server.shutdown()
        thread.join()


class Heard:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[tuple[str, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stage(self, title: str, total: int) -> Any:
        from contextlib import nullcontext

        self.stages.append((title, total))
        return nullcontext(lambda _: None)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def packed(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar archive of these members, as they are."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive; a name that ends in a slash is a folder."""
    info = tarfile.TarInfo(name.rstrip("/") if name != "./" else name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    info.size, info.mtime = len(content), 1_500_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def spleen_task() -> list[tuple[tarfile.TarInfo, bytes]]:
    """Task09_Spleen with two volumes, packed on a Mac by somebody who let everybody write to it."""
    listed = [
        {"image": f"./imagesTr/spleen_{n}.nii.gz", "label": f"./labelsTr/spleen_{n}.nii.gz"} for n in (2, 10)
    ]
    files = {"dataset.json": json.dumps({"training": listed, "test": []}).encode()}
    files |= {entry[kind][2:]: f"{kind} {n}".encode() for n, entry in enumerate(listed) for kind in entry}
    top = "Task09_Spleen"
    return [
        member("./"),
        member("./._Task09_Spleen", b"mac"),
        member(f"./{top}/"),
        *(
            entry
            for name, content in files.items()
            for entry in (
                member(f"./{top}/{PurePosixPath(name).parent}/._{PurePosixPath(name).name}", b"mac"),
                member(f"./{top}/{name}", content, mode=0o4777, uid=1234, uname="somebody"),
            )
        ),
    ]


class Packing:
    """What tests need to make archives."""

    packed = staticmethod(packed)
    member = staticmethod(member)
    spleen_task = staticmethod(spleen_task)


@pytest.fixture
def packing() -> type[Packing]:
    return Packing


"""Stands in every patient datum of the DICOM files below; nothing that is shown may hold it."""
