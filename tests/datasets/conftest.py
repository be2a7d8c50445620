"""A mirror on this machine that serves one file as well, or as badly, as a test wants; DICOM files."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


class Mirror:
    """What is served, how, and what was asked for.

    Attributes:
        content: The file.
        etag, modified: Its validators; empty for none.
        ranges: Whether it can serve a part.
        next: What to do at the coming requests instead of answering well: a status, ``cut N`` (break off
            after N bytes), ``html``, ``endless`` (no length), ``silent``, or an address to redirect to.
        asked: The headers of each request.
        sent: How many bytes of the file went out at each request.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/file.tar"
        self.content = b""
        self.etag, self.modified = '"one"', ""
        self.ranges = True
        self.next: list[int | str] = []
        self.asked: list[dict[str, str]] = []
        self.sent: list[int] = []


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
            threading.Event().wait(1.0)
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
        self.wfile.write(body)
        mirror.sent.append(len(body))


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


SECRET = "SECRET"
"""Stands in every patient datum of the DICOM files below; nothing that is shown may hold it."""


class DicomMaking:
    """Makes small CT series in DICOM, one file a slice, whose names say nothing of their order.

    Attributes:
        secret: What must never be shown.
    """

    secret = SECRET

    @staticmethod
    def scan(slices: int = 6, rows: int = 8, columns: int = 10) -> np.ndarray:
        """HU in radiological view, no two voxels alike, from -1000 upwards."""
        count = slices * rows * columns
        values = np.random.default_rng(1).permutation(count) * (2000 // count) - 1000
        return values.reshape(slices, rows, columns).astype(np.int16)

    @staticmethod
    def datasets(
        hu: np.ndarray,
        *,
        directions: Sequence[float] = (1, 0, 0, 0, 1, 0),
        step: Sequence[float] = (0, 0, 2.5),
        origin: Sequence[float] = (-120, -80, -300),
        signed: bool = False,
        intercept: float = -1024,
        slope: float = 1,
        frame: str = "1.2.3.9",
        spacing: Sequence[float] = (0.8, 0.8),
        seed: str = "one",
    ) -> list[Dataset]:
        """One dataset a plane of `hu`; places and directions are DICOM's: left, posterior, superior."""
        found = []
        for k, plane in enumerate(hu):
            ds = Dataset()
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
            ds.SOPInstanceUID = generate_uid(entropy_srcs=[seed, "slice", str(k)])
            ds.SeriesInstanceUID = generate_uid(entropy_srcs=[seed, "series"])
            ds.StudyInstanceUID = generate_uid(entropy_srcs=[seed, "study"])
            ds.FrameOfReferenceUID = frame
            ds.PatientName, ds.PatientID, ds.AccessionNumber = f"{SECRET}^NAME", f"{SECRET} {seed}", SECRET
            ds.PatientBirthDate, ds.PatientSex, ds.ReferringPhysicianName = "19010203", "O", SECRET
            ds.InstitutionName = SECRET
            ds.StudyDate, ds.StudyTime, ds.StudyID = "20200102", "101010", SECRET
            ds.SeriesNumber, ds.InstanceNumber = 1, len(hu) - k
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            ds.ImageOrientationPatient = list(directions)
            ds.ImagePositionPatient = [float(o + k * s) for o, s in zip(origin, step, strict=True)]
            ds.PixelSpacing, ds.SliceThickness = list(spacing), 2.5
            ds.Rows, ds.Columns = plane.shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
            ds.PixelRepresentation = int(signed)
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "HU"
            stored = np.rint((plane.astype(float) - intercept) / slope)
            ds.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
            found.append(ds)
        return found

    @staticmethod
    def write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
        """Write files in whose order of names slices are shuffled; paths in the order of the datasets."""
        folder.mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(len(datasets)).permutation(len(datasets))
        paths = [folder / f"{place:03d}.dcm" for place in order]
        for path, ds in zip(paths, datasets, strict=True):
            ds.save_as(path, enforce_file_format=True)
        return paths

    @staticmethod
    def segmentation(
        path: Path, sources: Sequence[Dataset], masks: np.ndarray, kind: str = "BINARY", **options: Any
    ) -> Path:
        """Write a DICOM SEG by highdicom: `masks` of shape (slices, rows, columns[, segments])."""
        import highdicom as hd
        from pydicom.sr.codedict import codes

        segments = masks.shape[3] if masks.ndim == 4 else int(masks.max())
        described = [
            hd.seg.SegmentDescription(
                segment_number=n,
                segment_label=f"organ {n}",
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type="MANUAL",
            )
            for n in range(1, segments + 1)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = hd.seg.Segmentation(
                source_images=list(sources),
                pixel_array=masks,
                segmentation_type=kind,
                segment_descriptions=described,
                series_instance_uid=generate_uid(),
                series_number=2,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="none",
                manufacturer_model_name="none",
                software_versions="1",
                device_serial_number="1",
                **options,
            )
            made.save_as(path)
        return path


@pytest.fixture(scope="session")
def dicom() -> type[DicomMaking]:
    return DicomMaking
