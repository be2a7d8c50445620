"""`cbirbench data fetch` and `data list` at the command line, against a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cbirbench.cli import app
from cbirbench.downloads import archives

TASK = "Task09_Spleen"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / "home" / name))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a small archive of the spleen's task is served; its hash is the expected one."""
    files = {
        "dataset.json": json.dumps(
            {"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]}
        )
    }
    files |= {"imagesTr/a.nii.gz": "image", "labelsTr/a.nii.gz": "label"}
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / f"{TASK}.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{TASK}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    md5 = hashlib.md5((served / f"{TASK}.tar").read_bytes()).hexdigest()
    known = [
        dataclasses.replace(archive, md5=md5) if archive.task == TASK else archive
        for archive in archives.ARCHIVES
    ]
    monkeypatch.setattr(archives, "ARCHIVES", tuple(known))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{TASK}.tar"
        server.shutdown()
        thread.join()


def invoked(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_a_task_is_fetched_into_the_default_folder_and_listed(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "cbirbench" / "data"
    output = invoked("fetch", "spleen", "--url", url)
    for words in ("CC BY-SA 4.0", "10.1038/s41467-022-30695-9", url, f"{TASK} is in {folder / TASK}"):
        assert words in output
    assert output.endswith("Run on it: cbirbench run spleen\n")
    assert (folder / TASK / "imagesTr" / "a.nii.gz").read_text() == "image"
    assert not (folder / f"{TASK}.tar").exists()
    assert "is here already" in invoked("fetch", TASK, "--url", url)
    row = next(line for line in invoked("list").splitlines() if "spleen" in line)
    assert "1 labelled volumes, default folder" in row and "cbirbench run spleen" in row


def test_where_the_variable_or_the_option_says(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBIRBENCH_DATA", str(tmp_path / "variable"))
    invoked("fetch", "spleen", "--url", url)
    assert (tmp_path / "variable" / TASK).is_dir()
    output = invoked("fetch", "spleen", "--url", url, "--out", "option", "--keep-archive")
    assert Path("option", TASK).is_dir() and Path("option", f"{TASK}.tar").is_file()
    assert f"cbirbench run spleen --data {Path('option').absolute() / TASK}" in output
    listed = {entry["benchmark"]: entry for entry in json.loads(invoked("list", "--json"))}
    assert listed["spleen"]["found_by"] == "$CBIRBENCH_DATA"
    assert listed["spleen"]["folder"] == str(tmp_path / "variable" / TASK)
    assert listed["spleen"]["labelled_volumes"] == 1
    assert listed["colon"]["here"] is False and listed["colon"]["how"] == "cbirbench data fetch colon"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["brain"], 2, ["nothing to fetch for 'brain'", "hepatic-vessel"]),
        (["splen"], 2, ["Did you mean 'spleen'?"]),
        ([], 2, ["TASK"]),
        (["spleen", "--url", "http://example.org/a.tar"], 2, ["https://"]),
        (["spleen", "--url", "{url}.gz"], 1, ["answered 404", "--url"]),
        (["colon", "--url", "{url}"], 1, ["MD5", "bad7a188931dc2f6acf72b08eb6202d0", "It was removed"]),
        (["spleen", "--url", "{url}", "--out", "file"], 1, ["could not be written", "is a file"]),
    ],
)
def test_mistakes_and_mishaps_are_answered_in_words(
    arguments: list[str], code: int, says: list[str], url: str, empty_folder: Path
) -> None:
    Path("file").write_text("mine")
    output = invoked("fetch", *(argument.format(url=url) for argument in arguments), code=code)
    for words in says:
        assert words in output
    assert [path.name for path in empty_folder.iterdir()] == ["file"]


def test_an_interruption_says_how_to_go_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cbirbench.downloads.fetching.unpack", interrupted)
    assert "the same command goes on" in invoked("fetch", "spleen", "--url", url, "--out", "data", code=1)
    assert Path("data", f"{TASK}.tar").is_file()


def test_the_list_names_what_each_benchmark_needs() -> None:
    output = invoked("list")
    for benchmark in (
        "phantom",
        "decathlon",
        "lung",
        "pancreas",
        "hepatic-vessel",
        "spleen",
        "colon",
        "folder",
    ):
        assert sum(line.split()[:1] == [benchmark] for line in output.splitlines()) == 1
    assert "cbirbench data fetch hepatic-vessel" in output and "cbirbench run folder --data DIR" in output
    assert "default folder: " in output
