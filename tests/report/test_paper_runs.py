import shlex

import pandas as pd
import pytest

from cbirbench.errors import DataError, UsageError
from cbirbench.report.paper_runs import fill_command, merge

HOG = {"hog": {"map@5": [0.7]}}
GABOR = {"gabor": {"map@5": [0.5]}}


def test_runs_of_one_profile_become_one_column(finished):
    one = finished("a", HOG, departures=[("relax", "masks", 3000, 10)], parameters={"hog": 3})
    other = finished("b", GABOR, departures=[("gabor", "window", [0, 1], [0, 2])], parameters={"gabor": 4})
    (column,) = merge([one, other]).values()
    assert list(column.extractors) == ["hog", "gabor"]
    assert len(column.scores) == len(one.scores) + len(other.scores)
    assert [item["option"] for item in column.summary["departures"]] == ["masks", "window"]
    assert column.parameters == {"hog": 3, "gabor": 4}
    assert column.folders == ("a", "b")


def test_profiles_are_columns_of_their_own_in_the_tables_order(finished):
    released = finished("b", {"hog": {"map@4": [0.7]}}, profile="released-code")
    columns = merge([released, finished("a", HOG)])
    assert list(columns) == ["paper", "released-code"]
    assert list(columns["released-code"].extractors) == ["hog"]


def test_a_departure_that_two_runs_share_is_named_once(finished):
    shared = [("relax", "masks", 3000, 10)]
    (column,) = merge(
        [finished("a", HOG, departures=shared), finished("b", GABOR, departures=shared)]
    ).values()
    assert len(column.summary["departures"]) == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"levels": HOG}, "both evaluate hog under profile paper"),
        ({"data": "0" * 64}, "different slices of phantom (data fingerprints ffffffffffff and 000000000000)"),
        ({"benchmark": "decathlon"}, "first is of the benchmark phantom, second of decathlon"),
        ({"data": "0" * 64, "profile": "released-code"}, "different slices"),
        ({"departures": [("run", "distance", "euclidean", "cosine")]}, "different rules: run.distance"),
    ],
)
def test_what_does_not_go_together_names_both_folders(finished, changed, says):
    with pytest.raises(UsageError) as caught:
        merge([finished("first", HOG), finished("second", changed.pop("levels", GABOR), **changed)])
    assert "first" in caught.value.problem and "second" in caught.value.problem
    assert says in caught.value.problem
    assert caught.value.remedy


def test_other_masks_matter_only_where_both_were_explained(finished):
    masks = [("relax", "masks", 3000, 10)]
    explained = {"hog": {"relevance-rank": [0.1]}}, {"gabor": {"relevance-rank": [0.1]}}
    assert merge([finished("a", explained[0], departures=masks), finished("b", GABOR)])
    with pytest.raises(UsageError, match=r"relax\.masks"):
        merge([finished("a", explained[0], departures=masks), finished("b", explained[1])])


def test_how_often_each_was_trained_may_differ(finished):
    assert merge([finished("a", HOG, departures=[("run", "runs", 20, 3)]), finished("b", GABOR)])


@pytest.mark.parametrize("key", ["benchmark", "profile", "extractors", "metrics"])
def test_a_summary_of_something_else_is_refused(finished, key):
    run = finished("odd", HOG)
    del run.summary[key]
    with pytest.raises(DataError, match="odd"):
        merge([run])


def test_an_unknown_profile_is_refused(finished):
    with pytest.raises(DataError, match="profile"):
        merge([finished("odd", HOG, profile="mine")])


def test_the_command_keeps_the_data_and_the_rules_of_the_runs_at_hand(finished):
    changed = [
        ("phantom", "size", 256, 64),
        ("relax", "masks", 3000, 10),
        ("hog", "window", [0, 1], [-100, 200]),
        ("phantom", "box", [1, 2], [3, 4]),
        ("relax", "label", "a", "b c"),
    ]
    run = finished("a", HOG, departures=changed)
    run.summary["seed"] = 7
    run.summary["departures"].append(
        {**run.summary["departures"][0], "option": "fixed", "set_by": "benchmark"}
    )
    (column,) = merge([run]).values()
    assert shlex.split(fill_command(column, "released-code", ["imagenet", "gabor"])) == [
        *("cbirbench", "run", "phantom", "--extractors", "imagenet,gabor", "--profile", "released-code"),
        *("--seed", "7", "--set", "phantom.size=64", "--set", "relax.masks=10"),
        *("--set", "phantom.box=3,4", "--set", "relax.label=b c"),
    ]


def test_a_missing_learned_row_gets_the_backbone_and_the_training_of_the_one_at_hand(finished):
    changed = [
        ("simsiam-hu-clip", "backbone", "resnet50", "lite0"),
        ("simsiam-hu-clip", "epochs", 250, 5),
        ("imagenet", "backbone", "resnet50", "lite0"),
        ("imagenet", "random_seed", 0, 1),
        ("hu-clip", "narrow", [50, 150], [0, 100]),
    ]
    (column,) = merge([finished("a", {"simsiam-hu-clip": {"map@5": [0.9]}}, departures=changed)]).values()
    command = fill_command(column, "paper", ["imagenet", "simsiam-baseline", "gabor"])
    assert shlex.split(command)[7:] == [
        *("--set", "imagenet.backbone=lite0", "--set", "simsiam-baseline.backbone=lite0"),
        *("--set", "simsiam-baseline.epochs=5", "--set", "imagenet.random_seed=1"),
        *("--set", "hu-clip.narrow=0,100"),
    ]


def test_the_command_asks_for_scans_where_the_run_took_them(finished):
    run = finished("a", HOG, benchmark="decathlon")
    run.summary["command"] = "cbirbench run decathlon --data /scans --extractors hog"
    (column,) = merge([run]).values()
    assert "--data DIR" in fill_command(column, "paper", ["gabor"])


def test_scores_keep_their_cohorts(finished):
    one, other = finished("a", HOG), finished("b", GABOR)
    other.scores["cohort"] = "clinic"
    (column,) = merge([one, other]).values()
    assert pd.isna(column.scores["cohort"]).sum() == len(one.scores)


def test_a_new_extractor_beside_one_at_hand_is_trained_alike(finished):
    changed = [("simsiam-hu-clip", "epochs", 250, 5), ("simsiam-hu-clip", "backbone", "resnet50", "lite0")]
    (column,) = merge([finished("a", {"simsiam-hu-clip": {"map@5": [0.9]}}, departures=changed)]).values()
    extractors = ["imagenet", "simsiam-baseline", "simsiam-hu-clip"]
    given = shlex.split(fill_command(column, "released-code", extractors))
    assert {part for part in given if "=" in part} == {
        "simsiam-hu-clip.epochs=5",
        "simsiam-baseline.epochs=5",
        "simsiam-hu-clip.backbone=lite0",
        "simsiam-baseline.backbone=lite0",
        "imagenet.backbone=lite0",
    }
