from __future__ import annotations

import re
from pathlib import Path

import pytest

from cbirbench.downloads.archives import (
    ARCHIVES,
    archive_called,
    data_folder,
    default_data_folder,
    is_task_folder,
)
from cbirbench.errors import UsageError


def test_every_ct_task_has_an_address_and_a_checksum_of_its_own() -> None:
    assert [archive.task[:6] for archive in ARCHIVES] == [f"Task{n:02}" for n in (3, 6, 7, 8, 9, 10)]
    for archive in ARCHIVES:
        assert archive.url == f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{archive.task}.tar"
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
    names = [name for archive in ARCHIVES for name in archive.names]
    assert len(names) == len(set(names))
    assert len({archive.md5 for archive in ARCHIVES}) == len(ARCHIVES)


@pytest.mark.parametrize("name", ["decathlon", "liver", "Task03_Liver"])
def test_the_liver_goes_by_three_names(name: str) -> None:
    assert archive_called(name).task == "Task03_Liver"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("splen", "'spleen'"),
        ("livr", "'liver'? To be had: decathlon (liver, Task03_Liver), lung (Task06_Lung), "),
        ("PANCREAS", "'pancreas'"),
        ("phantom", "cbirbench data list"),
    ],
)
def test_what_is_not_to_be_had_is_answered_with_what_is(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=repr(name)) as caught:
        archive_called(name)
    assert says in caught.value.remedy and "hepatic-vessel" in caught.value.remedy


def test_the_data_folder_is_the_given_one_then_the_variables_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: f"/home/somebody/{name}")
    assert data_folder() == default_data_folder() == Path("/home/somebody/cbirbench/data")
    monkeypatch.setenv("CBIRBENCH_DATA", "~/scans")
    assert data_folder() == Path.home() / "scans"
    assert data_folder(Path("here")) == Path("here")
    monkeypatch.setenv("CBIRBENCH_DATA", "")
    assert data_folder() == default_data_folder()


def test_a_task_folder_is_known_by_what_it_holds(tmp_path: Path) -> None:
    assert not is_task_folder(tmp_path)
    (tmp_path / "labelsTr").mkdir()
    assert is_task_folder(tmp_path)
