from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cbirbench.downloads.archives import archive_called
from cbirbench.downloads.fetching import fetch
from cbirbench.errors import DataError, MissingError, UsageError

TASK = "Task09_Spleen"
Usage = namedtuple("Usage", "total used free")


class Fetching:
    """Fetches the spleen's task from the mirror, and remembers what was said."""

    def __init__(self, mirror: Any, heard: Any, folder: Path, content: bytes) -> None:
        self.mirror, self.heard, self.folder, self.content = mirror, heard, folder, content
        mirror.content = content
        md5 = hashlib.md5(content).hexdigest()
        self.archive = dataclasses.replace(archive_called("spleen"), md5=md5)
        self.said: list[str] = []

    def __call__(self, **options: Any) -> Path:
        folder = options.pop("folder", self.folder)
        options.setdefault("url", self.mirror.url)
        return fetch(self.archive, folder, progress=self.heard, say=self.said.append, **options)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name != f".{TASK}.lock")


@pytest.fixture
def fetching(mirror: Any, heard: Any, packing: Any, tmp_path: Path) -> Fetching:
    return Fetching(mirror, heard, tmp_path / "data", packing.packed(packing.spleen_task()))


def test_a_task_is_fetched_once(fetching: Fetching) -> None:
    assert fetching() == fetching.folder / TASK
    assert fetching.left() == [TASK]
    said = "\n".join(fetching.said)
    for words in (
        "CC BY-SA 4.0",
        "10.1038/s41467-022-30695-9",
        fetching.mirror.url,
        str(fetching.folder / TASK),
    ):
        assert words in said
    assert "0 MB to download, about as much again unpacked" in said
    fetching.said.clear()
    assert fetching() == fetching.folder / TASK
    assert fetching.said == [f"{fetching.folder / TASK} is here already, and whole."]
    assert len(fetching.mirror.asked) == 1


def test_all_is_said_before_the_first_byte_is_kept(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 2 * len(fetching.content) - 1))
    with pytest.raises(MissingError, match="not enough room") as caught:
        fetching()
    assert "to download" in caught.value.problem and "to unpack" in caught.value.problem
    assert str(fetching.folder) in caught.value.problem
    assert any("licence" in line for line in fetching.said)
    assert fetching.left() == []


def test_what_is_here_needs_no_room_of_its_own(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching.mirror.next = ["cut 4000", *[404] * 9]
    with pytest.raises(MissingError):
        fetching()
    fetching.mirror.next = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 2 * len(fetching.content) - 4000))
    fetching()
    assert fetching.mirror.sent == [4000, len(fetching.content) - 4000]
    assert any("of it are here already" in line for line in fetching.said)


def test_an_archive_that_is_kept_serves_again(fetching: Fetching) -> None:
    fetching(keep_archive=True)
    assert fetching.left() == [TASK, f"{TASK}.tar"]
    shutil.rmtree(fetching.folder / TASK)
    fetching()
    assert fetching.left() == [TASK] and len(fetching.mirror.asked) == 1


def test_an_archive_brought_by_hand_that_is_another_is_not_touched(fetching: Fetching) -> None:
    fetching.folder.mkdir()
    (fetching.folder / f"{TASK}.tar").write_bytes(b"another")
    with pytest.raises(DataError, match=hashlib.md5(b"another").hexdigest()) as caught:
        fetching()
    assert fetching.archive.md5 in caught.value.problem
    assert (fetching.folder / f"{TASK}.tar").read_bytes() == b"another" and fetching.left() == [f"{TASK}.tar"]


def test_a_wrong_hash_leaves_nothing(fetching: Fetching) -> None:
    fetching.mirror.content = fetching.content[:-1] + b"x"
    with pytest.raises(DataError, match="MD5"):
        fetching()
    assert fetching.left() == []
    fetching.mirror.content = fetching.content
    fetching()


def test_an_unpacking_that_fails_keeps_the_archive_and_goes_on(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("cbirbench.downloads.unpacking._content", interrupted)
        fetching()
    assert fetching.left() == [f"{TASK}.tar"]
    fetching()
    assert fetching.left() == [TASK] and len(fetching.mirror.asked) == 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda task: (task / "imagesTr/spleen_2.nii.gz").unlink(), "1 of the 4 files"),
        (lambda task: (task / "dataset.json").unlink(), "no dataset.json"),
        (lambda task: (task / "dataset.json").write_text("{"), "no Decathlon dataset.json"),
    ],
)
def test_a_folder_that_is_not_whole_is_not_overwritten(damage: Any, says: str, fetching: Fetching) -> None:
    task = fetching()
    damage(task)
    before = sorted(task.rglob("*"))
    with pytest.raises(DataError, match=says) as caught:
        fetching()
    assert "ove it away" in caught.value.remedy
    assert sorted(task.rglob("*")) == before


def test_a_file_of_the_tasks_name_is_not_overwritten(fetching: Fetching) -> None:
    fetching.folder.mkdir()
    (fetching.folder / TASK).write_text("mine")
    with pytest.raises(DataError, match="it is no folder"):
        fetching()
    assert (fetching.folder / TASK).read_text() == "mine"


def test_the_data_folder_may_be_the_tasks_own_but_no_others(fetching: Fetching) -> None:
    task = fetching()
    assert fetching(folder=task) == task
    task.rename(task.with_name("Task03_Liver"))
    with pytest.raises(UsageError, match="itself a task's folder"):
        fetching(folder=task.with_name("Task03_Liver"))


def test_two_at_once_are_one_too_many(fetching: Fetching) -> None:
    fetching.folder.mkdir()
    with FileLock(fetching.folder / f".{TASK}.lock"), pytest.raises(MissingError, match="Another process"):
        fetching()
    assert fetching.mirror.asked == []
    fetching()


@pytest.mark.parametrize("below", ["", "further/down"])
def test_a_folder_that_cannot_be_made_is_said_before_anything_is_asked(
    below: str, fetching: Fetching, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MissingError, match="could not be written"):
        fetching(folder=tmp_path / "file" / below)
    assert fetching.mirror.asked == []


def test_a_folder_that_may_not_be_written_to(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(MissingError, match="Permission denied") as caught:
        fetching()
    assert "may write to" in caught.value.remedy


def test_an_address_that_is_not_https_is_refused_first(fetching: Fetching) -> None:
    with pytest.raises(UsageError, match="https"):
        fetching(url="http://example.org/a.tar")
    assert not fetching.folder.exists()
