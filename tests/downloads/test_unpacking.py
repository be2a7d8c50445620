from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cbirbench.downloads import unpacking as module
from cbirbench.downloads.unpacking import check_room, gigabytes, unpack, what_lacks
from cbirbench.errors import DataError, MissingError

TASK = "Task09_Spleen"
Usage = namedtuple("Usage", "total used free")


def unpacked(content: bytes, folder: Path, heard: Any) -> Path:
    (folder / f"{TASK}.tar").write_bytes(content)
    return unpack(folder / f"{TASK}.tar", folder, TASK, heard)


def refused(content: bytes, folder: Path, heard: Any) -> str:
    """What is said of an archive that is refused; nothing of it is left, inside the folder or out of it."""
    inside = folder / "data"
    inside.mkdir()
    with pytest.raises(DataError) as caught:
        unpacked(content, inside, heard)
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))] == [
        "data",
        f"data/{TASK}.tar",
    ]
    return str(caught.value)


def test_a_task_is_unpacked_whole_without_what_macs_add(tmp_path: Path, heard: Any, packing: Any) -> None:
    found = unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    assert found == tmp_path / TASK
    names = sorted(path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file())
    scans = [f"{kind}/spleen_{n}.nii.gz" for kind in ("imagesTr", "labelsTr") for n in (10, 2)]
    assert names == ["dataset.json", *scans]
    assert (found / "imagesTr/spleen_2.nii.gz").read_bytes() == b"image 0"
    assert sorted(path.name for path in tmp_path.iterdir()) == [TASK, f"{TASK}.tar"]
    assert what_lacks(found) == ""


def test_permissions_are_ours_and_times_the_archives(tmp_path: Path, heard: Any, packing: Any) -> None:
    before = os.umask(0o022)
    try:
        found = unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    finally:
        os.umask(before)
    for path in (found, *found.rglob("*")):
        state = path.stat()
        assert stat.S_IMODE(state.st_mode) == (0o755 if path.is_dir() else 0o644)
        assert state.st_uid == os.getuid()
        assert path.is_dir() or state.st_mtime == 1_500_000_000


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "above": (f"{TASK}/../../escaped", {}, "leads out"),
    "above, by name": ("../escaped", {}, "leads out"),
    "absolute": ("/tmp/cbirbench-escaped", {}, "leads out"),
    "windows": (f"{TASK}/..\\escaped", {}, "leads out"),
    "drive": ("C:/escaped", {}, "leads out"),
    "outside": ("Task03_Liver/dataset.json", {}, "outside the folder"),
    "beside": ("escaped", {}, "outside the folder"),
    "escape sequence": (f"{TASK}/\x1b[2Jclean", {}, "a control character"),
    "end of a line": (f"{TASK}/imagesTr/a\nb", {}, "a control character"),
    "read backwards": (f"{TASK}/gpj.\u202eexe", {}, "a control character"),
    "its folder is a file": (TASK, {}, "twice"),
    "symbolic link": (f"{TASK}/link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link"),
    "hard link": (f"{TASK}/link", {"type": tarfile.LNKTYPE, "linkname": f"{TASK}/dataset.json"}, "a link"),
    "link for the folder": (TASK, {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link"),
    "device": (f"{TASK}/null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a device"),
    "pipe": (f"{TASK}/pipe", {"type": tarfile.FIFOTYPE}, "a device"),
    "hidden link": (f"{TASK}/._link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link"),
    "again": (f"{TASK}/dataset.json", {}, "twice"),
    "again, in capitals": (f"{TASK}/DATASET.JSON", {}, "twice"),
    "below a file": (f"{TASK}/dataset.json/x", {}, "twice"),
    "folder for a file": (f"{TASK}/dataset.json", {"type": tarfile.DIRTYPE}, "twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path, heard: Any, packing: Any
) -> None:
    name, fields, says = HOSTILE[kind]
    content = packing.packed([*packing.spleen_task(), packing.member(name, **fields)])
    said = refused(content, tmp_path, heard)
    assert says in said and repr(name) in said
    assert not Path("/tmp/cbirbench-escaped").exists()


def test_a_size_that_is_not_there_is_refused(tmp_path: Path, heard: Any, packing: Any) -> None:
    bomb, _ = packing.member(f"{TASK}/bomb")
    bomb.size = 10**13
    content = packing.packed(packing.spleen_task()).rstrip(b"\0")
    content += bytes(-len(content) % 512) + bomb.tobuf(tarfile.GNU_FORMAT) + b"little"
    said = refused(content, tmp_path, heard)
    assert "damaged" in said or "claims a size" in said


def test_a_file_of_holes_is_refused(tmp_path: Path, heard: Any, packing: Any) -> None:
    headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(10**13)}
    headers |= {"GNU.sparse.map": "0,1", "GNU.sparse.name": f"{TASK}/holes", "GNU.sparse.numblocks": "1"}
    holes = packing.member(f"{TASK}/holes", b"1", pax_headers=headers)
    said = refused(packing.packed([*packing.spleen_task(), holes]), tmp_path, heard)
    assert "claims a size" in said or "neither a file" in said


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path, heard: Any, packing: Any) -> None:
    giant, _ = packing.member("giant")
    giant.type, giant.size = tarfile.XHDTYPE, 4 * 10**9
    said = refused(giant.tobuf(tarfile.GNU_FORMAT) + bytes(1024), tmp_path, heard)
    assert "a header of 40000" in said


def test_a_header_of_negative_size_ends(tmp_path: Path, heard: Any, packing: Any) -> None:
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        backwards, _ = packing.member(f"{TASK}/backwards")
        backwards.type, backwards.size = kind, -1024
        folder = tmp_path / kind.hex()
        folder.mkdir()
        refused(backwards.tobuf(tarfile.GNU_FORMAT) + bytes(1024), folder, heard)


def test_a_chain_of_headers_ends(tmp_path: Path, heard: Any, packing: Any) -> None:
    link, _ = packing.member("link")
    link.type, link.size = tarfile.XHDTYPE, 0
    assert "damaged" in refused(link.tobuf(tarfile.GNU_FORMAT) * 3000 + bytes(1024), tmp_path, heard)


def test_too_many_files_are_refused(
    tmp_path: Path, heard: Any, packing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 5)
    assert "one of more than 5" in refused(packing.packed(packing.spleen_task()), tmp_path, heard)


@pytest.mark.parametrize("cut", [0, 700, 3000])
def test_a_damaged_archive_is_said_to_be(cut: int, tmp_path: Path, heard: Any, packing: Any) -> None:
    assert f"{TASK}.tar" in refused(packing.packed(packing.spleen_task())[:cut], tmp_path, heard)


def test_a_compressed_archive_is_not_opened(tmp_path: Path, heard: Any, packing: Any) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, content in packing.spleen_task():
            tar.addfile(info, io.BytesIO(content))
    assert "no tar archive" in refused(stream.getvalue(), tmp_path, heard)


@pytest.mark.parametrize(
    ("without", "says"),
    [("dataset.json", "has no dataset.json"), ("imagesTr/spleen_10.nii.gz", "1 of the 4 files")],
)
def test_an_archive_that_is_not_whole_is_not_unpacked(
    without: str, says: str, tmp_path: Path, heard: Any, packing: Any
) -> None:
    entries = [
        entry
        for entry in packing.spleen_task()
        if not entry[0].name.endswith(without) or "._" in entry[0].name
    ]
    assert len(entries) == len(packing.spleen_task()) - 1
    assert says in refused(packing.packed(entries), tmp_path, heard)


def test_a_description_of_nothing_or_of_files_elsewhere_is_no_task(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"training": []}')
    assert "lists no file" in what_lacks(tmp_path)
    (tmp_path / "dataset.json").write_text('{"training": [{"image": "/nowhere/a", "label": "/nowhere/b"}]}')
    assert "2 of the 2 files" in what_lacks(tmp_path)


def test_what_an_ended_unpacking_left_is_removed(tmp_path: Path, heard: Any, packing: Any) -> None:
    left = tmp_path / f".{TASK}.unpacking" / TASK
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    found = unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    assert not left.parent.exists() and not (found / "half").exists()


def test_a_link_in_the_way_is_removed_and_not_followed(tmp_path: Path, heard: Any, packing: Any) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / f".{TASK}.unpacking").symlink_to(tmp_path / "precious")
    unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_no_room_is_said_before_anything_is_written(
    tmp_path: Path, heard: Any, packing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    with pytest.raises(MissingError, match="not enough room"):
        unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    assert [path.name for path in tmp_path.iterdir()] == [f"{TASK}.tar"]


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing_half_written(
    problem: BaseException, tmp_path: Path, heard: Any, packing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def fails_at_the_third(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise problem

    monkeypatch.setattr(os, "fsync", fails_at_the_third)
    with pytest.raises((MissingError, KeyboardInterrupt)) as caught:
        unpacked(packing.packed(packing.spleen_task()), tmp_path, heard)
    assert isinstance(problem, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert len(synced) == 3
    assert [path.name for path in tmp_path.iterdir()] == [f"{TASK}.tar"]


def test_room_is_counted_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 2_000_000_000))
    check_room(tmp_path, 2_000_000_000, "it")
    with pytest.raises(MissingError, match=r"it takes 3\.0 GB, and 2\.0 GB are free") as caught:
        check_room(tmp_path, 3_000_000_000, "it")
    assert "--out" in caught.value.remedy


@pytest.mark.parametrize(
    ("size", "says"),
    [(0, "0 MB"), (3_400_000, "3 MB"), (999_999_999, "1000 MB"), (27_040_000_000, "27.0 GB")],
)
def test_sizes_for_people(size: int, says: str) -> None:
    assert gigabytes(size) == says
