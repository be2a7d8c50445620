from __future__ import annotations

from pathlib import Path

import pytest

from cbirbench import registry
from cbirbench.downloads.inventory import Entry, inventory, places


@pytest.fixture(autouse=True)
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / "home" / name))
    return tmp_path / "home" / "cbirbench" / "data"


def make_task(folder: Path, volumes: int) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(volumes):
        (folder / "labelsTr" / f"scan_{number}.nii.gz").touch()
        (folder / "labelsTr" / f"._scan_{number}.nii.gz").touch()
    (folder / "labelsTr" / "notes.csv").touch()


def of(benchmark: str) -> Entry:
    (entry,) = [entry for entry in inventory() if entry.benchmark == benchmark]
    return entry


def test_every_installed_benchmark_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [entry.benchmark for entry in inventory()]
    assert len(names) == len(set(names))
    assert names[:2] == ["phantom", "decathlon"]
    assert {plugin.name for plugin in registry.installed("benchmark")} <= set(names)
    assert of("phantom").here and of("folder").here is None


@pytest.mark.usefixtures("fake_plugins")
def test_another_packages_benchmark_is_named_and_not_imported() -> None:
    assert of("blobs").how == "see the documentation of cbirbench-fake"
    assert of("blobs").here is None


def test_nothing_is_here_until_it_was_fetched(default: Path) -> None:
    assert of("spleen").here is False and of("spleen").how == "cbirbench data fetch spleen"
    make_task(default / "Task09_Spleen", 3)
    found = of("spleen")
    assert (found.here, found.labelled_volumes, found.found_by) == (True, 3, "default folder")
    assert found.folder == default / "Task09_Spleen" and found.how == "cbirbench run spleen"
    assert of("colon").here is False


def test_the_variable_goes_before_the_default_folder(
    default: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task(default / "Task09_Spleen", 3)
    make_task(default / "Task10_Colon", 2)
    make_task(tmp_path / "mine" / "Task09_Spleen", 5)
    monkeypatch.setenv("CBIRBENCH_DATA", str(tmp_path / "mine"))
    assert places()[0] == ("$CBIRBENCH_DATA", tmp_path / "mine")
    assert (of("spleen").labelled_volumes, of("spleen").found_by) == (5, "$CBIRBENCH_DATA")
    # A run would not look there while the variable is set.
    assert of("colon").found_by == "--data"
    assert of("colon").how == f"cbirbench run colon --data {default / 'Task10_Colon'}"


def test_the_variable_may_name_a_tasks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_task(tmp_path / "Task03_Liver_part", 4)
    monkeypatch.setenv("CBIRBENCH_DATA", str(tmp_path / "Task03_Liver_part"))
    assert of("decathlon").labelled_volumes == 4
    assert of("spleen").here is False


def test_a_task_without_masks_is_not_here(default: Path) -> None:
    make_task(default / "Task06_Lung", 0)
    assert (of("lung").here, of("lung").labelled_volumes) == (False, 0)
    assert of("lung").how == "cbirbench data fetch lung"
