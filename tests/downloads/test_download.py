from __future__ import annotations

import errno
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cbirbench.downloads import download as module
from cbirbench.downloads.download import WAITS_S, download, file_md5, megabytes
from cbirbench.errors import DataError, MissingError, UsageError

CONTENT = random.Random(5).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = random.Random(6).randbytes(250_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.tar"


def fetched(mirror: Any, path: Path, heard: Any, url: str = "") -> list[tuple[int, int]]:
    """Download what should be CONTENT; gives what `begin` was called with."""
    begun: list[tuple[int, int]] = []
    download(
        url or mirror.url,
        path,
        md5=MD5,
        progress=heard,
        begin=lambda size, here: begun.append((size, here)),
    )
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.tar"]
    return begun


def broken_off(mirror: Any, path: Path, heard: Any, *, after: int = 100_000) -> None:
    """Leave the first bytes of CONTENT behind, as an interruption would."""
    mirror.content = CONTENT
    mirror.next = [f"cut {after}", *[404] * 9]
    with pytest.raises(MissingError):
        download(mirror.url, path, md5=MD5, progress=heard, begin=lambda *_: None)
    mirror.next = []
    assert path.with_name("file.tar.part").read_bytes() == CONTENT[:after]
    assert not path.exists()
    mirror.asked.clear()
    mirror.sent.clear()
    heard.notes.clear()
    heard.stages.clear()


def test_a_whole_file(mirror: Any, path: Path, heard: Any) -> None:
    mirror.content = CONTENT
    assert fetched(mirror, path, heard) == [(300_000, 0)]
    assert "Range" not in mirror.asked[0] and len(mirror.asked) == 1
    assert heard.notes == []


def test_only_what_is_missing_is_sent(mirror: Any, path: Path, heard: Any) -> None:
    broken_off(mirror, path, heard)
    assert fetched(mirror, path, heard) == [(300_000, 100_000)]
    assert mirror.asked[0]["Range"] == "bytes=100000-" and mirror.asked[0]["If-Range"] == '"one"'
    assert mirror.sent == [200_000]


@pytest.mark.parametrize(
    ("etag", "modified", "held"),
    [
        ("", "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ('W/"weak"', "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ('W/"weak"', "", None),
        ("", "", None),
    ],
)
def test_what_a_part_is_held_against(
    etag: str, modified: str, held: str | None, mirror: Any, path: Path, heard: Any
) -> None:
    mirror.etag, mirror.modified = etag, modified
    broken_off(mirror, path, heard)
    fetched(mirror, path, heard)
    assert mirror.asked[0].get("If-Range") == held and mirror.sent == [200_000]


def test_a_file_that_changed_meanwhile_is_not_joined(mirror: Any, path: Path, heard: Any) -> None:
    mirror.content = OTHER
    mirror.next = ["cut 100000", *[404] * 9]
    with pytest.raises(MissingError):
        download(mirror.url, path, md5=MD5, progress=heard, begin=lambda *_: None)
    mirror.next, mirror.content, mirror.etag, mirror.sent = [], CONTENT, '"two"', []
    assert fetched(mirror, path, heard) == [(300_000, 0)]
    assert mirror.sent == [300_000]
    assert any("another by now" in note for note in heard.notes)


@pytest.mark.parametrize("content", [OTHER, OTHER[:50_000]], ids=["other size", "ends before the part"])
def test_a_changed_file_without_validators_is_told_by_its_size(
    content: bytes, mirror: Any, path: Path, heard: Any
) -> None:
    mirror.etag = ""
    broken_off(mirror, path, heard)
    mirror.content = content
    found = hashlib.md5(content).hexdigest()
    with pytest.raises(DataError, match=found):
        fetched(mirror, path, heard)
    assert mirror.sent[-1] == len(content)
    assert any("another by now" in note for note in heard.notes)


def test_a_server_that_cannot_resume_sends_it_all_and_that_is_said(
    mirror: Any, path: Path, heard: Any
) -> None:
    broken_off(mirror, path, heard)
    mirror.ranges = False
    assert fetched(mirror, path, heard) == [(300_000, 0)]
    assert mirror.asked[0]["Range"] == "bytes=100000-" and mirror.sent == [300_000]
    assert any("cannot resume" in note for note in heard.notes)


def test_another_mirror_goes_on_where_the_first_broke_off(mirror: Any, path: Path, heard: Any) -> None:
    broken_off(mirror, path, heard)
    mirror.etag = '"its own"'
    assert fetched(mirror, path, heard, url=mirror.url + "/elsewhere") == [(300_000, 100_000)]
    assert "If-Range" not in mirror.asked[0] and mirror.sent == [200_000]


def test_a_transfer_that_breaks_off_is_taken_up_again(mirror: Any, path: Path, heard: Any) -> None:
    mirror.content = CONTENT
    mirror.next = [503, "cut 120000", "cut 0", "cut 80000"]
    assert fetched(mirror, path, heard) == [(300_000, 0)]
    assert mirror.sent == [120_000, 0, 80_000, 100_000]
    assert len(heard.notes) == 4 and "503" in heard.notes[0] and "120000 bytes" in heard.notes[1]


def test_a_transfer_that_always_breaks_off_fails_and_goes_on_with_the_next_command(
    mirror: Any, path: Path, heard: Any
) -> None:
    mirror.content = CONTENT
    mirror.next = ["cut 10000"] * 99
    with pytest.raises(MissingError, match="broke off 5 times") as caught:
        fetched(mirror, path, heard)
    assert len(mirror.asked) == len(WAITS_S) + 1
    assert "the same command goes on" in caught.value.remedy
    mirror.next = []
    assert fetched(mirror, path, heard) == [(300_000, 50_000)]


def test_a_server_that_starts_again_and_breaks_off_is_not_asked_for_ever(
    mirror: Any, path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    mirror.content, mirror.ranges, mirror.next = CONTENT, False, ["cut 50000"] * 99
    with pytest.raises(MissingError, match="broke off"):
        fetched(mirror, path, heard)
    assert len(mirror.asked) == len(WAITS_S) + 1


def test_as_long_as_it_gets_further_it_is_not_given_up(
    mirror: Any, path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    mirror.content, mirror.next = CONTENT, ["cut 20000"] * 14
    fetched(mirror, path, heard)
    assert len(mirror.asked) == 15


def test_a_wrong_hash_removes_what_came(mirror: Any, path: Path, heard: Any) -> None:
    mirror.content = OTHER
    with pytest.raises(DataError, match=hashlib.md5(OTHER).hexdigest()) as caught:
        fetched(mirror, path, heard)
    assert MD5 in caught.value.problem and "--url" in caught.value.remedy
    assert list(path.parent.iterdir()) == []


def test_a_part_that_was_damaged_on_the_disk_is_found_by_the_hash(
    mirror: Any, path: Path, heard: Any
) -> None:
    broken_off(mirror, path, heard)
    path.with_name("file.tar.part").write_bytes(bytes(100_000))
    with pytest.raises(DataError, match="MD5"):
        fetched(mirror, path, heard)
    assert list(path.parent.iterdir()) == []
    fetched(mirror, path, heard)


@pytest.mark.parametrize("record", [None, "{", "[]", '{"url": "x"}'])
def test_a_part_of_unknown_origin_is_not_gone_on_with(
    record: str | None, mirror: Any, path: Path, heard: Any
) -> None:
    broken_off(mirror, path, heard)
    recorded = path.with_name("file.tar.part.json")
    recorded.unlink() if record is None else recorded.write_text(record)
    assert fetched(mirror, path, heard) == [(300_000, 0)]
    assert "unknown origin" in heard.notes[0]


def test_an_interruption_before_the_last_step_costs_no_request(mirror: Any, path: Path, heard: Any) -> None:
    broken_off(mirror, path, heard)
    path.with_name("file.tar.part").write_bytes(CONTENT)
    assert fetched(mirror, path, heard) == [(300_000, 300_000)]
    assert mirror.asked == []


def test_an_interruption_keeps_what_has_arrived(
    mirror: Any, path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(type(heard)):  # type: ignore[misc]
        def stage(self, title: str, total: int) -> Any:
            from contextlib import nullcontext

            def advance(_: int) -> None:
                raise KeyboardInterrupt

            return nullcontext(advance)

    mirror.content = CONTENT
    with pytest.raises(KeyboardInterrupt):
        fetched(mirror, path, Interrupted())
    kept = path.with_name("file.tar.part").read_bytes()
    assert len(kept) > 0 and CONTENT.startswith(kept)
    assert fetched(mirror, path, heard) == [(300_000, len(kept))]


@pytest.mark.parametrize("how", [404, 403, "html", "endless"])
def test_what_is_no_archive_leaves_a_part_as_it_was(
    how: int | str, mirror: Any, path: Path, heard: Any
) -> None:
    broken_off(mirror, path, heard)
    mirror.ranges = how != "endless"  # a part's size is known from its range
    mirror.next = [how]
    with pytest.raises(MissingError):
        fetched(mirror, path, heard)
    assert len(mirror.asked) == 1
    assert path.with_name("file.tar.part").read_bytes() == CONTENT[:100_000]


def test_what_begin_refuses_is_not_fetched(mirror: Any, path: Path, heard: Any) -> None:
    mirror.content = CONTENT

    def refuse(*_: int) -> None:
        raise MissingError("There is not enough room.")

    with pytest.raises(MissingError, match="room"):
        download(mirror.url, path, md5=MD5, progress=heard, begin=refuse)
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_is_said_and_keeps_the_part(
    mirror: Any, path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(mirror, path, heard)
    opened = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if mode == "ab":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(MissingError, match="No space left") as caught:
        fetched(mirror, path, heard)
    assert "Free some space" in caught.value.remedy
    assert path.with_name("file.tar.part").read_bytes() == CONTENT[:100_000]


def test_an_address_that_is_not_https_is_never_asked(path: Path, heard: Any) -> None:
    with pytest.raises(UsageError):
        download("ftp://example.org/a", path, md5=MD5, progress=heard, begin=lambda *_: None)


def test_a_signature_is_not_kept(mirror: Any, path: Path, heard: Any) -> None:
    broken_off(mirror, path, heard)
    mirror.next = ["cut 1", *[404] * 9]
    with pytest.raises(MissingError) as caught:
        fetched(mirror, path, heard, url=mirror.url + "?signature=secret")
    recorded = json.loads(path.with_name("file.tar.part.json").read_text())
    assert recorded == {"url": mirror.url, "bytes": 300_000, "validator": '"one"'}
    assert "secret" not in str(caught.value)


def test_a_files_md5(tmp_path: Path, heard: Any) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_md5(tmp_path / "a", heard) == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321


def test_megabytes_add_up() -> None:
    class Counting:
        shown = 0

        def stage(self, title: str, total: int) -> Any:
            from contextlib import nullcontext

            assert (title, total) == ("Fetching (MB)", 7)
            return nullcontext(self.add)

        def add(self, more: int) -> None:
            self.shown += more

        def note(self, text: str) -> None:
            raise AssertionError

    counting = Counting()
    with megabytes(counting, "Fetching", 7_300_000) as advance:
        for _ in range(73):
            advance(100_000)
    assert counting.shown == 7
