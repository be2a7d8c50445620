"""Runs with external cohorts: queries from folders of NIfTI files that the tests make."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from cbirbench.cli import app
from cbirbench.store import read_arrays

pytestmark = pytest.mark.usefixtures("fake_plugins")


def write_scan(folder: Path, name: str, seed: int, *, masked: bool = True, subfolders: bool = True) -> None:
    """Eight slices of noise, the upper four with a bright organ."""
    hu = np.random.default_rng(seed).integers(-400, 100, (10, 12, 8)).astype(np.int16)
    hu[:2] = -1000
    mask = np.zeros(hu.shape, np.uint8)
    hu[3:8, 4:9, 4:], mask[3:8, 4:9, 4:] = 250, 1
    affine = np.diag((-1.0, -1.0, 3.0, 1.0))
    images, masks = (folder / "images", folder / "masks") if subfolders else (folder, folder / "none")
    images.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu, affine), images / f"{name}.nii.gz")
    if masked:
        masks.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(mask, affine), masks / f"{name}.nii.gz")


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    for number in range(3):
        write_scan(folder, f"case_{number}", number)
    return folder


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Two scans without masks; some of their slices are labelled."""
    folder = tmp_path / "ward"
    for number in range(2):
        write_scan(folder, f"stay_{number}", 10 + number, masked=False, subfolders=False)
    rows = [f"stay_{number},{z},{int(z >= 4)}" for number in range(2) for z in (0, 1, 5, 6)]
    (folder / "slice_labels.csv").write_text("\n".join(["case,slice,label", *rows, "stay_0,3,-1"]) + "\n")
    return folder


def run(out: Path, *more: str) -> Result:
    arguments = [
        "run",
        "blobs",
        "--extractors",
        "learned-offset,brightness",
        "--metrics",
        "purity@2,coverage",
    ]
    settings = ["--set", "learned.epochs=4", "--set", "relax.masks=20", "--runs", "2", "--device", "cpu"]
    if "--explain-queries" not in more:
        settings += ["--explain-queries", "none"]  # figures take most of the time
    return CliRunner().invoke(app, [*arguments, *settings, "--out", str(out), *more])


def test_a_cohort_is_looked_up_in_the_benchmarks_gallery(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--queries", str(clinic), "--eval-every", "2")
    assert done.exit_code == 0, done.output
    assert "blobs — profile" in done.output and "clinic in blobs — profile" in done.output
    slices = pd.read_parquet(out / "slices.parquet")
    outside = slices[slices["cohort"] == "clinic"]
    assert set(outside["split"]) == {"query"} and len(outside) == 3 * 8  # what there is of 5 + 5
    assert outside["slice_id"].str.startswith("clinic/case_").all()
    assert sorted(slices.loc[slices["split"] == "gallery", "cohort"].unique()) == ["blobs"]
    scores = pd.read_parquet(out / "scores.parquet")
    assert set(scores["cohort"]) == {"blobs", "clinic"}
    of_clinic = scores[scores["cohort"] == "clinic"]
    assert len(of_clinic) == 24 * 2 * (2 + 1)  # metrics; runs of the one that learns, and of the other
    gallery = set(slices.loc[slices["split"] == "gallery", "slice_id"])
    near = pd.read_parquet(out / "neighbours.parquet")
    assert set(near.loc[near["cohort"] == "clinic", "gallery_id"]) <= gallery
    curves = pd.read_parquet(out / "curves.parquet")
    assert set(zip(curves["cohort"], curves["epoch"], strict=True)) == {
        (cohort, epoch) for cohort in ("blobs", "clinic") for epoch in (0, 2, 4)
    }
    assert (out / "cohorts" / "clinic" / "curves.png").is_file()
    text = (out / "report.md").read_text()
    assert "## Cohort clinic\n" in text and "(cohorts/clinic/curves.png)" in text
    summary = json.loads((out / "summary.json").read_text())
    (entry,) = summary["cohorts"]
    assert (entry["name"], entry["gallery"], entry["query_slices"], entry["query_patients"]) == (
        "clinic",
        "benchmark",
        24,
        3,
    )
    assert entry["masked_queries"] == 24 and entry["scores"][0]["metrics"]["purity@2"]["runs"] == 2
    assert str(clinic) not in json.dumps({**summary, "command": ""})


def test_scores_of_a_cohort_follow_from_its_files(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    assert run(out, "--queries", str(clinic)).exit_code == 0
    slices = pd.read_parquet(out / "slices.parquet")
    label = dict(zip(slices["slice_id"], slices["label"], strict=True))
    gallery = slices.loc[slices["split"] == "gallery", "slice_id"].tolist()
    queries = slices.loc[slices["cohort"] == "clinic", "slice_id"].tolist()
    scores = pd.read_parquet(out / "scores.parquet")
    own, _ = read_arrays(out / "embeddings/learned-offset/run-001.safetensors")
    outside, _ = read_arrays(out / "cohorts/clinic/embeddings/learned-offset/run-001.safetensors")
    assert set(outside) == {"query"}
    chosen = scores[(scores["cohort"] == "clinic") & (scores["extractor"] == "learned-offset")]
    values = chosen[(chosen["run"] == 1) & (chosen["metric"] == "purity@2")].set_index("query_id")["value"]
    for row, query in enumerate(queries):
        apart = np.linalg.norm(outside["query"][row].astype(float) - own["gallery"].astype(float), axis=1)
        nearest = sorted(range(len(gallery)), key=lambda place: (apart[place], gallery[place]))[:2]
        assert values[query] == np.mean([label[gallery[place]] == label[query] for place in nearest])


def test_a_cohort_does_not_change_the_benchmarks_own_scores(tmp_path: Path, clinic: Path) -> None:
    assert run(tmp_path / "alone").exit_code == 0
    assert run(tmp_path / "with", "--queries", str(clinic)).exit_code == 0
    alone, both = (pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("alone", "with"))
    own = both[both["cohort"] == "blobs"].reset_index(drop=True)
    keys = ["extractor", "run", "metric", "query_id"]
    pd.testing.assert_frame_equal(
        own.sort_values(keys).reset_index(drop=True), alone.sort_values(keys).reset_index(drop=True)
    )


def test_its_own_gallery_never_shows_a_query_its_own_patient(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--queries", str(clinic), "--gallery", "self")
    assert done.exit_code == 0, done.output
    assert "clinic in itself" in done.output
    slices = pd.read_parquet(out / "slices.parquet").drop_duplicates("slice_id").set_index("slice_id")
    near = pd.read_parquet(out / "neighbours.parquet").query("cohort == 'clinic'")
    assert set(slices.loc[near["gallery_id"], "cohort"]) == {"clinic"}
    asked, found = (slices.loc[near[name], "patient_id"].to_numpy() for name in ("query_id", "gallery_id"))
    assert (asked != found).all()
    leakage = json.loads((out / "summary.json").read_text())["cohorts"][0]["leakage"]
    assert leakage["crossing_patients"] == []
    assert "find their own scan" not in (out / "report.md").read_text()


def test_labels_without_masks_are_scored_and_the_rest_says_why_not(tmp_path: Path, ward: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", "blobs", "--extractors", "brightness", "--metrics", "purity@2,relevance-rank"]
    options = ["--set", "relax.masks=20", "--out", str(out), "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, *options, "--queries", f"stays={ward}"])
    assert done.exit_code == 0, done.output
    _, _, table = done.output.partition("stays in blobs")
    assert "RR is undefined" in " ".join(table.split()) and "have no masks" in " ".join(table.split())
    scores = pd.read_parquet(out / "scores.parquet").query("cohort == 'stays'")
    assert len(scores[scores["metric"] == "purity@2"]) == 8  # the unsure slice is left out
    assert scores.loc[scores["metric"] == "purity@2", "value"].notna().all()
    assert scores.loc[scores["metric"] == "relevance-rank", "value"].isna().all()
    figures = json.loads((out / "summary.json").read_text())["cohorts"][0]["figures"]
    assert figures and all((out / item["file"]).is_file() for item in figures)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--gallery", "self"], "none was given"),
        (["--queries", "nowhere"], "is not there"),
        (["--queries", "blobs={clinic}"], "Two cohorts are called 'blobs'"),
        (["--queries", "{clinic}", "--queries", "clinic={clinic}"], "Two cohorts are called 'clinic'"),
        (["--queries", "UNN={clinic}", "--queries", "unn={clinic}"], "Two cohorts are called 'unn'"),
        (["--queries", "{clinic}", "--explain-queries", "clinic/case_0_z0099"], "No query is called"),
    ],
)
def test_cohorts_that_cannot_be(tmp_path: Path, clinic: Path, more: list[str], said: str) -> None:
    done = run(tmp_path / "out", *(text.format(clinic=clinic) for text in more))
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize("gallery", ["benchmark", "self"])
def test_a_patient_of_the_gallery_is_refused_by_id(tmp_path: Path, gallery: str) -> None:
    folder = tmp_path / "clinic"
    for name in ("patient-g1", "patient-new"):
        write_scan(folder, name, 3)
    done = run(tmp_path / "out", "--queries", str(folder), "--gallery", gallery)
    assert done.exit_code == 2
    assert "1 patients are in the gallery and in the cohort clinic: patient-g1." in " ".join(
        done.output.split()
    )


def test_a_single_patient_cannot_be_its_own_gallery(tmp_path: Path) -> None:
    write_scan(tmp_path / "clinic", "case", 3)
    done = run(tmp_path / "out", "--queries", str(tmp_path / "clinic"), "--gallery", "self")
    assert done.exit_code == 2
    assert "Give a cohort of more patients" in " ".join(done.output.split())


def test_a_query_of_a_cohort_can_be_drawn(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--queries", str(clinic), "--explain-queries", "clinic/case_0_z0005")
    assert done.exit_code == 0, done.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["figures"] == []
    drawn = summary["cohorts"][0]["figures"]
    assert {item["query_id"] for item in drawn} == {"clinic/case_0_z0005"}
    assert all((out / item["file"]).is_file() for item in drawn)


@pytest.mark.parametrize("gallery", ["benchmark", "self"])
def test_copies_of_gallery_slices_under_another_name_are_reported(tmp_path: Path, gallery: str) -> None:
    """The phantom's first bodies once more, as files: other ids, the same pixels."""
    exported = tmp_path / "copies"
    options = ["--volumes", "2", "--size", "64"]
    made = CliRunner().invoke(app, ["data", "phantom", "--out", str(exported), *options])
    assert made.exit_code == 0, made.output
    small = [f"--set=phantom.{name}" for name in ("gallery_volumes=2", "query_volumes=1", "size=64")]
    small += ["--set=phantom.slices_per_kind=15", "--set=folder.slices_per_kind=15"]
    arguments = ["run", "phantom", "--extractors", "brightness", "--metrics", "purity@2", *small]
    asked = ["--queries", str(exported), "--gallery", gallery, "--explain-queries", "none"]
    done = CliRunner().invoke(app, [*arguments, *asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    leakage = json.loads((tmp_path / "out" / "summary.json").read_text())["cohorts"][0]["leakage"]
    assert leakage["by_hash"]["how"]["identical"] > 0
    assert "have a copy in the gallery under another patient" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("gallery", ["benchmark", "self"])
def test_a_query_of_a_cohort_is_explained_from_the_finished_run(
    tmp_path: Path, clinic: Path, gallery: str
) -> None:
    out = tmp_path / "out"
    assert run(out, "--queries", str(clinic), "--gallery", gallery).exit_code == 0
    picture = tmp_path / "picture.png"
    asked = ["--query", "clinic/case_1_z0006", "--top", "3", "--device", "cpu", "--out", str(picture)]
    done = CliRunner().invoke(app, ["explain", str(out), *asked])
    assert done.exit_code == 0, done.output
    assert picture.is_file()
    near = pd.read_parquet(out / "neighbours.parquet")
    first = near[(near["query_id"] == "clinic/case_1_z0006") & (near["extractor"] == "learned-offset")]
    for row in first[(first["run"] == 0) & (first["rank"] <= 2)].itertuples():
        assert f"{row.rank}  {row.gallery_id}, distance" in done.output
    done = CliRunner().invoke(app, ["explain", str(out), "--query", "case_1_z0006"])
    assert done.exit_code == 2 and "Give --query clinic/case_1_z0006" in done.output


def test_a_cohort_without_the_organ_is_warned_of(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    done = run(out, "--queries", str(clinic), "--set", "folder.targets=7")
    assert done.exit_code == 0, done.output
    assert "All 15 queries of clinic lack the target organ" in " ".join(done.output.split())
    assert "lack the target organ" in (out / "report.md").read_text()


def test_what_the_cohorts_options_change_departs_from_the_profile(tmp_path: Path, clinic: Path) -> None:
    out = tmp_path / "out"
    assert run(out, "--queries", str(clinic), "--set", "folder.slices_per_kind=2").exit_code == 0
    departures = json.loads((out / "summary.json").read_text())["departures"]
    assert ("folder", "slices_per_kind", 2) in [(d["plugin"], d["option"], d["value"]) for d in departures]


def test_scans_that_are_left_out_are_in_the_records(tmp_path: Path, clinic: Path) -> None:
    write_scan(clinic, "case_9", 9, masked=False)
    out = tmp_path / "out"
    assert run(out, "--queries", str(clinic)).exit_code == 0
    assert "1 scan of" in (told := " ".join(json.loads((out / "summary.json").read_text())["notes"]))
    assert "has neither mask nor labels" in told
    assert "has neither mask nor labels" in (out / "report.md").read_text()


def test_a_collection_known_to_overlap_is_warned_of_by_name(tmp_path: Path, clinic: Path) -> None:
    task = clinic.rename(tmp_path / "Task03_Liver")
    other = tmp_path / "3D-IRCADb-01"
    write_scan(other, "patient", 4)
    arguments = ["run", "folder", "--set", f"folder.images={task}", "--extractors", "brightness"]
    options = ["--metrics", "purity@2", "--out", str(tmp_path / "out"), "--device", "cpu"]
    options += ["--explain-queries", "none"]
    done = CliRunner().invoke(app, [*arguments, *options, "--queries", str(other)])
    assert done.exit_code == 0, done.output
    assert "LiTS volumes 28 to 44" in " ".join(done.output.split())


def test_places_of_masks_are_not_taken_for_a_cohort_without_a_word(tmp_path: Path, clinic: Path) -> None:
    done = run(tmp_path / "out", "--queries", str(clinic), "--set", f"folder.masks={clinic / 'masks'}")
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "folder.masks says where the benchmark folder's scans are" in said
    assert "Put masks beside the images" in said


def test_a_benchmark_without_the_target_anywhere_is_refused(tmp_path: Path, clinic: Path) -> None:
    arguments = ["run", "folder", "--data", str(clinic), "--extractors", "brightness", "--device", "cpu"]
    options = ["--metrics", "purity@2", "--set", "folder.targets=9", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, *options])
    assert done.exit_code == 1
    assert "No slice of folder shows the target organ; the masks of its slices mark 1." in " ".join(
        done.output.split()
    )


def test_synthetic_scans_are_called_so_as_a_cohort(tmp_path: Path) -> None:
    exported = tmp_path / "made"
    made = CliRunner().invoke(
        app, ["data", "phantom", "--out", str(exported), "--volumes", "2", "--size", "64"]
    )
    assert made.exit_code == 0, made.output
    small = [
        f"--set=phantom.{name}" for name in ("gallery_volumes=2", "query_volumes=1", "size=64", "seed=5")
    ]
    arguments = ["run", "phantom", "--extractors", "brightness", "--metrics", "purity@2", *small]
    asked = ["--queries", str(exported), "--explain-queries", "none", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, *asked])
    assert done.exit_code == 0, done.output
    entry = json.loads((tmp_path / "out" / "summary.json").read_text())["cohorts"][0]
    assert entry["synthetic"] is True
    assert entry["structures"] == {"1": "liver", "2": "cancer"}
