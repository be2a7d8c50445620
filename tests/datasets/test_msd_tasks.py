from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cbirbench import registry
from cbirbench.datasets import msd
from cbirbench.datasets.msd import Decathlon, TaskBenchmark
from cbirbench.datasets.msd_tasks import Colon, HepaticVessel, Lung, Pancreas, Spleen
from cbirbench.downloads.archives import ARCHIVES
from cbirbench.errors import DataError, DataWarning, UsageError
from cbirbench.settings import Settings, parse_assignments
from cbirbench.windows import ORGAN_WINDOWS

TASKS: tuple[type[TaskBenchmark], ...] = (Decathlon, Lung, Pancreas, HepaticVessel, Spleen, Colon)
PUBLISHED = {  # training volumes, as each task's dataset.json counts them
    "decathlon": 131,
    "lung": 63,
    "pancreas": 281,
    "hepatic-vessel": 303,
    "spleen": 41,
    "colon": 126,
}
NAMES = {task: task.task.benchmark for task in TASKS}
each_task = pytest.mark.parametrize("benchmark", TASKS, ids=NAMES.values())


def write_task(
    folder: Path, count: int = 3, values: tuple[int, ...] = (1,), shown: range = range(4, 13)
) -> None:
    """Volumes of 20 slices; each value of the mask is in slices of its own, then all are in the rest."""
    stem = folder.name.split("_")[1].lower()
    for number in range(1, count + 1):
        hu = np.random.default_rng(number).integers(-900, 900, size=(5, 6, 20)).astype(np.int16)
        hu[0, 0, :2] = (-1000, 1000)
        mask = np.zeros(hu.shape, np.uint8)
        for place, z in enumerate(shown):
            mask[1:3, 1:3, z] = values[min(place, len(values) - 1)]
        for kind, stored in (("imagesTr", hu), ("labelsTr", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            affine = np.diag((-0.7, -0.7, 2.5, 1.0))
            nib.save(nib.Nifti1Image(stored, affine), folder / kind / f"{stem}_{number:03d}.nii.gz")


def made(
    benchmark: type[TaskBenchmark], data: Path | None, train: int = 2, test: int = 1, **more: Any
) -> Any:
    options = benchmark.options_type(data=data, train_volumes=train, test_volumes=test, **more)  # type: ignore[call-arg]
    return benchmark(options)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """All six tasks in one folder."""
    for task in TASKS:
        write_task(tmp_path / task.task.folder)
    return tmp_path


@each_task
def test_splits_keep_the_papers_share_of_the_labelled_volumes(benchmark: type[TaskBenchmark]) -> None:
    options: Any = benchmark.options_type()
    volumes = PUBLISHED[NAMES[benchmark]]
    assert options.train_volumes + options.test_volumes == volumes
    assert abs(options.train_volumes - volumes * 100 / 131) <= 0.5
    assert (options.slices_per_kind, options.slice_seed, options.mask_grid) == (5, 0, "own")
    assert options.too_few == ("take-fewer" if benchmark in (Lung, Colon, HepaticVessel) else "refuse")
    with pytest.raises(ValueError, match="train_volumes"):
        benchmark.options_type(train_volumes=0)  # type: ignore[call-arg]


def test_they_are_installed_under_their_names() -> None:
    for benchmark in TASKS:
        plugin = registry.find("benchmark", NAMES[benchmark])
        assert plugin.names == (NAMES[benchmark],)
        assert registry.load(plugin) is benchmark
    assert {archive.benchmark: archive.task for archive in ARCHIVES} == {
        NAMES[task]: task.task.folder for task in TASKS
    }


@each_task
def test_every_task_finds_its_own_folder_among_all(benchmark: type[TaskBenchmark], tasks: Path) -> None:
    sources = made(benchmark, tasks).sources()
    stem = benchmark.task.folder.split("_")[1].lower()
    assert [(s.volume_id, s.split) for s in sources] == [
        (f"{stem}_001", "gallery"),
        (f"{stem}_002", "gallery"),
        (f"{stem}_003", "query"),
    ]
    assert made(benchmark, tasks / benchmark.task.folder).sources() == sources


@each_task
def test_another_tasks_folder_is_refused_by_name(benchmark: type[TaskBenchmark], tasks: Path) -> None:
    other = TASKS[TASKS.index(benchmark) - 1]
    message = (
        rf"is {other.task.folder}, which is read by the benchmark {NAMES[other]}; {NAMES[benchmark]} reads"
    )
    with pytest.raises(UsageError, match=message):
        made(benchmark, tasks / other.task.folder).sources()
    (tasks / other.task.folder).rename(tasks / "Task02_Heart")
    with pytest.raises(UsageError, match="no benchmark here, as it is MR"):
        made(benchmark, tasks / "Task02_Heart").sources()
    (tasks / "Task02_Heart").rename(tasks / "mine")
    assert len(made(benchmark, tasks / "mine").sources()) == 3


@each_task
def test_messages_name_the_benchmark_and_its_task(
    benchmark: type[TaskBenchmark], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = NAMES[benchmark], benchmark.task.folder
    monkeypatch.setattr(msd, "default_data_folder", lambda: tmp_path / "nowhere")
    with pytest.raises(UsageError, match=rf"{name} needs CT volumes") as raised:
        made(benchmark, None).sources()
    assert f"folder {folder} of" in raised.value.remedy
    assert f"`cbirbench data fetch {name}`" in raised.value.remedy
    with pytest.raises(UsageError, match=rf"{name}\.train_volumes=7") as raised:
        made(benchmark, tasks, 7).sources()
    assert f"--set {name}.train_volumes=2 --set {name}.test_volumes=1" in raised.value.remedy
    for path in (tasks / folder / "labelsTr").iterdir():
        path.unlink()
    write_task(tasks / folder, shown=range(0))
    benchmark_here = made(benchmark, tasks, too_few="refuse")
    with pytest.raises(DataError, match=rf"marks no {benchmark.task.organ}: no voxel is"):
        benchmark_here.read(benchmark_here.sources()[0])


def test_the_default_folder_comes_last(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msd, "default_data_folder", lambda: tasks)
    found = made(Spleen, None).sources()
    assert found == made(Spleen, tasks).sources()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CBIRBENCH_DATA", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"empty holds no Task09_Spleen\*"):
        made(Spleen, None).sources()


@each_task
def test_they_pickle(benchmark: type[TaskBenchmark], tasks: Path) -> None:
    here = made(benchmark, tasks)
    source = here.sources()[0]
    again, source_again = pickle.loads(pickle.dumps((here, source)))
    assert type(again) is benchmark and again.options == here.options
    assert type(again.options) is benchmark.options_type
    assert again.read(source_again).fingerprint() == here.read(source).fingerprint()


def test_an_organs_tumour_is_the_organ_but_no_vessel(tmp_path: Path) -> None:
    for benchmark, tumour_label in ((Pancreas, 1), (HepaticVessel, 0)):
        # Slices 4 to 8 show value 1 alone, 9 to 12 value 2 alone.
        write_task(tmp_path / benchmark.task.folder, values=(1, 1, 1, 1, 1, 2))
        here = made(benchmark, tmp_path, slices_per_kind=20, too_few="take-fewer")
        source = here.sources()[0]
        labels = {item.z_index: item.label for item in here.read(source)}
        assert labels == {z: 1 if 4 <= z <= 8 else tumour_label if 9 <= z <= 12 else 0 for z in range(20)}
    assert HepaticVessel.options_type().model_dump()["targets"] == (1,)
    assert made(HepaticVessel, tmp_path).sources()[0].fingerprint["targets"] == (1,)
    assert "targets" not in made(Pancreas, tmp_path).sources()[0].fingerprint


def test_structures_are_the_tasks_until_other_targets_are_set(tasks: Path) -> None:
    assert {name: dict(task.structures) for task, name in ((made(t, None), NAMES[t]) for t in TASKS)} == {
        "decathlon": {1: "liver", 2: "tumour"},
        "lung": {1: "cancer"},
        "pancreas": {1: "pancreas", 2: "cancer"},
        "hepatic-vessel": {1: "vessel", 2: "tumour"},
        "spleen": {1: "spleen"},
        "colon": {1: "colon cancer primaries"},
    }
    described = {"training": [], "labels": {"0": "background", "3": "spleen"}}
    (tasks / "Task09_Spleen" / "dataset.json").write_text(json.dumps(described))
    assert made(Spleen, tasks, targets=(3,)).structures == {3: "spleen"}
    assert made(HepaticVessel, tasks, targets=()).structures == {}


def test_a_small_tumour_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    write_task(tmp_path / "Task06_Lung", shown=range(7, 9))
    write_task(tmp_path / "Task09_Spleen", shown=range(7, 9))
    lung, spleen = made(Lung, tmp_path), made(Spleen, tmp_path)
    with pytest.warns(DataWarning, match="lung_001 gives 2 slices with lung cancer and 5 without"):
        slices = lung.read(lung.sources()[0])
    assert (len(slices), slices.labels.sum()) == (7, 2)
    with pytest.raises(DataError, match=r"--set spleen\.slices_per_kind=2"):
        spleen.read(spleen.sources()[0])


@each_task
def test_extractors_and_augmentations_are_given_the_organs_windows(benchmark: type[TaskBenchmark]) -> None:
    settings = Settings("paper", benchmark.defaults, [])
    windows = ORGAN_WINDOWS["liver" if benchmark is Decathlon else NAMES[benchmark]]
    given = {"wide": windows.wide, "narrow": windows.narrow, "window": windows.wide}
    met = set()
    for kind in ("extractor", "augmentation"):
        for plugin in registry.installed(kind):  # type: ignore[arg-type]
            options_type = registry.load(plugin).options_type
            if set(given) & set(options_type.model_fields):
                options = settings.resolve(options_type, plugin.names)
                for option in set(given) & set(options_type.model_fields):
                    assert getattr(options, option) == given[option], (plugin.name, option)
                met |= {options_type.family, *plugin.names} & set(benchmark.defaults)
    assert met == set(benchmark.defaults)
    liver = ORGAN_WINDOWS["liver"]
    changed = {("window", "wide"): windows.wide != liver.wide, ("narrow",): windows.narrow != liver.narrow}
    expected = {name for names, differs in changed.items() if differs for name in names}
    assert {departure.option for departure in settings.departures.values()} == expected


def test_a_window_of_the_user_outranks_the_tasks() -> None:
    settings = Settings("paper", Lung.defaults, parse_assignments(["hog.window=-150,250"]))
    plugin = registry.find("extractor", "hog")
    assert settings.resolve(registry.load(plugin).options_type, plugin.names).model_dump()["window"] == (
        -150,
        250,
    )
