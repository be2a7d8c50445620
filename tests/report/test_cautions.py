import pandas as pd
import pytest

from cbirbench.report.cautions import (
    cautions,
    chance_warning,
    explanation_warnings,
    floor_warning,
    runs_warning,
)
from cbirbench.report.footnotes import explanation_lines, footnotes
from cbirbench.report.scoreboard import scoreboard


def test_ten_patients_need_no_warning(summary, scores):
    ten = scores[scores["patient_id"].isin([f"p{i}" for i in range(10)])]
    assert not any("say little" in line for line in cautions(scoreboard(summary, ten)))


def trained_twice(summary, scores, runs, extractors=2, metrics=("map@5",)):
    """The first extractors on some metrics, each with so many runs whose scores differ."""
    summary = {**summary, "extractors": summary["extractors"][:extractors], "metrics": list(metrics)}
    names = [item["name"] for item in summary["extractors"]]
    chosen = scores[scores["extractor"].isin(names) & scores["metric"].isin(metrics) & (scores["run"] == 0)]
    return scoreboard(summary, pd.concat([chosen.assign(run=run) for run in range(runs)]))


def test_three_runs_against_three_are_warned_of(summary, scores):
    board = trained_twice(summary, scores, runs=3)
    # One in 20 is not below .05; of 8 runs dealt to 4 and 4 it is one in 70.
    assert runs_warning(board) == (
        "Too few training runs: 1 of 1 test cannot reach p < 0.05, whatever the scores (3 runs against 3 "
        "stop at p = 0.05). To be sure to be able to, a test over runs of this family takes, of each "
        "extractor, 4 runs where it is one-sided."
    )
    assert runs_warning(board) in cautions(board)


def test_four_runs_reach_it_alone_and_not_in_a_larger_family(summary, scores):
    assert runs_warning(trained_twice(summary, scores, runs=4)) == ""
    metrics = ("map@5", "knn-accuracy@5", "relevance-rank")
    warning = runs_warning(trained_twice(summary, scores, runs=4, extractors=3, metrics=metrics))
    # Nine tests: 9/70 is too large; 9/252 is not, but 18/252 is, and 18/924 is not.
    assert warning.startswith("Too few training runs: 9 of 9 tests cannot reach p < 0.05")
    assert "4 runs against 4 stop at p = 0.01429; 4 runs against 4, two-sided, stop at p = 0.02857" in warning
    assert "Holm's correction multiplies by up to 9" in warning
    assert warning.endswith(
        "takes, of each extractor, 5 runs where it is one-sided and 6 runs where it is two-sided."
    )


def test_a_family_too_large_for_the_permutations_is_said(summary, scores):
    names = [f"e{i}" for i in range(4)]
    summary["extractors"] = [{"name": name} for name in names]
    summary["metrics"] = ["map@5"]
    one = scores[(scores["metric"] == "map@5") & (scores["extractor"] == "hog")]
    runs = [one.assign(extractor=name, run=run) for name in names for run in range(3)]
    board = scoreboard(summary, pd.concat(runs), permutations=100)
    assert "no number of runs with 100 permutations where it is one-sided" in runs_warning(board)


def test_unreliable_maps_and_maps_no_better_than_a_control_are_warned_of(explained, scores):
    explained["explanations"]["controls"]["random-map"]["relevance-rank"]["mean"] = 0.3
    assert explanation_warnings(scoreboard(explained, scores)) == [
        # Six times 2750.4 masks, rounded up.
        "Mean reliability of the maps below 0.8 (hog 0.60): other masks would give other maps. More masks "
        "make them more reliable: --set relax.masks=17000, about what a mean of 0.9 takes (with "
        "--until-reliable 0.9 a map takes them only as far as it needs them).",
        # Equal to the centre's 25 %, and below the other.
        "hog: its maps find the organ no better than a map of random similarities (RR 25.0 % against 30.0 %) "
        "or a map of the image's centre (RR 25.0 % against 25.0 %).",
        "gabor: its maps find the organ no better than a map of random similarities (RR 25.0 % against "
        "30.0 %) or a map of the image's centre (RR 25.0 % against 25.0 %).",
    ]


def test_one_warning_names_all_extractors_with_poor_maps_and_the_most_masks(explained, scores):
    entry = explained["explanations"]["extractors"]["gabor"]
    entry["reliability"] = {"mean": 0.5, "lowest": 0.4, "undefined": 0}
    entry["masks"]["mean"] = 3000.0
    (warning, *others) = explanation_warnings(scoreboard(explained, scores))
    assert "(hog 0.60, gabor 0.50)" in warning and not any("reliability" in other for other in others)
    assert "relax.masks=27000," in warning  # nine times as many: .9 * .5 / (.5 * .1)


@pytest.mark.parametrize("reliability", [0.1, 0.0, -0.2])
def test_maps_of_noise_do_not_set_the_masks_that_all_are_given(explained, scores, reliability):
    entry = explained["explanations"]["extractors"]["gabor"]
    entry["reliability"] = {"mean": reliability, "lowest": reliability, "undefined": 0}
    entry["masks"]["mean"] = 3000.0
    (warning, *_) = explanation_warnings(scoreboard(explained, scores))
    assert "--set relax.masks=17000, about" in warning  # hog's
    assert warning.endswith(" gabor would take over 20 times as many.")


def test_no_number_of_masks_is_named_where_none_follows(explained, scores):
    explained["explanations"]["extractors"]["hog"]["reliability"]["mean"] = 0.0
    (warning, *_) = explanation_warnings(scoreboard(explained, scores))
    assert "--set relax.masks=N (with" in warning


def test_maps_above_both_controls_and_reliable_need_no_warning(explained, scores):
    explained["extractors"] = explained["extractors"][:1]
    board = scoreboard(explained, scores[scores["extractor"] == "simsiam-hu-clip"])
    assert explanation_warnings(board) == []


def test_runs_without_explanations_say_nothing_of_them(summary, scores):
    board = scoreboard(summary, scores)
    assert explanation_lines(board) == explanation_warnings(board) == []


def test_null_values_are_passed_over(explained, scores):
    entry = explained["explanations"]
    entry["chance"] = None
    entry["controls"]["center-map"]["relevance-rank"]["mean"] = None
    for item in entry["extractors"].values():
        item["reliability"] = {"mean": None, "lowest": None, "undefined": 24}
    board = scoreboard(explained, scores)
    assert explanation_warnings(board) == []
    text = " ".join(footnotes(board))
    assert "Chance of RR" not in text and "nan" not in text


def test_other_metrics_on_explanations_are_compared_with_controls_too(pointing):
    board = scoreboard(*pointing)
    warnings = explanation_warnings(board)
    assert any(w.startswith("hog: its maps find the organ no better than a map of the") for w in warnings)
    text = " ".join(footnotes(board))
    assert "Chance of RR" not in text and "Reliability: the" not in text
    assert "on 12 of 24 queries: queries that show the target organ." in text


def with_floors(summary, *floors, chance=0.5):
    """The run with some of its extractors as floors, and a level of chance."""
    for item in summary["extractors"]:
        item["floor"] = item["name"] in floors
    summary["benchmark"]["chance"] = {"map@5": chance, "knn-accuracy@5": chance}
    return summary


def test_extractors_below_a_floor_are_named_once(summary, scores):
    # MAP and ACC: ours .98, hog .5, gabor 0.
    board = scoreboard(with_floors(summary, "hog"), scores)
    assert floor_warning(board) == (
        "Not above a floor, which looks at no anatomy: gabor in MAP@5 (hog 50.0 %) and ACC (5-NN) "
        "(hog 50.0 %)."
    )
    assert floor_warning(board) in cautions(board)


def test_the_highest_floor_counts_and_floors_are_not_held_against_each_other(summary, scores):
    board = scoreboard(with_floors(summary, "simsiam-hu-clip", "gabor"), scores)
    warning = floor_warning(board)
    assert "hog in MAP@5 (simsiam-hu-clip (ours) 97.9 %)" in warning and "gabor" not in warning


def test_to_equal_a_floor_is_not_to_rise_above_it(summary, scores):
    scores.loc[scores["metric"] == "map@5", "value"] = 0.5
    warning = floor_warning(scoreboard(with_floors(summary, "hog"), scores))
    assert "simsiam-hu-clip (ours) and gabor in MAP@5 (hog 50.0 %)" in warning


def test_a_floor_is_one_of_retrieval_not_of_maps(summary, scores):
    # Relevance rank: gabor .25 is not above hog's, which the controls judge.
    assert "RR" not in floor_warning(scoreboard(with_floors(summary, "hog"), scores))


def test_no_floor_or_none_reached_needs_no_warning(summary, scores):
    assert floor_warning(scoreboard(with_floors(summary), scores)) == ""
    assert floor_warning(scoreboard(with_floors(summary, "gabor"), scores)) == ""


def test_scores_no_better_than_chance_are_warned_of_except_of_floors(summary, scores):
    board = scoreboard(with_floors(summary, chance=0.7), scores)
    assert chance_warning(board) == (
        "No better than chance: hog (MAP@5 50.0 % against 70.0 %, ACC (5-NN) 50.0 % against 70.0 %); "
        "gabor (MAP@5 0.0 % against 70.0 %, ACC (5-NN) 0.0 % against 70.0 %)."
    )
    assert "hog" not in chance_warning(scoreboard(with_floors(summary, "hog", chance=0.7), scores))
    assert chance_warning(scoreboard(with_floors(summary, "gabor", chance=0.4), scores)) == ""


def test_runs_of_before_chance_was_recorded_say_nothing_of_it(summary, scores):
    board = scoreboard(summary, scores)
    assert chance_warning(board) == floor_warning(board) == ""
    assert not any(line.startswith("Chance") for line in footnotes(board))


def test_what_only_rounding_tells_apart_is_not_above(summary, scores):
    """The same values in another order have means that differ in the last digit."""
    of = {name: (scores["extractor"] == name) & (scores["metric"] == "map@5") for name in ("gabor", "hog")}
    values = [0.1 * (place % 10) for place in range(int(of["hog"].sum()))]
    scores.loc[of["hog"], "value"] = values
    scores.loc[of["gabor"], "value"] = values[::-1]
    for level in (0.0, 1e-16, -1e-16):
        scores.loc[of["gabor"], "value"] += level
        board = scoreboard(with_floors(summary, "hog", chance=sum(values) / len(values)), scores)
        assert "gabor in MAP@5" in floor_warning(board)
        assert "gabor (MAP@5" in chance_warning(board)


def test_floors_count_for_metrics_that_know_no_chance_too(summary, scores):
    changed = with_floors(summary, "hog")
    changed["benchmark"]["chance"] = {}
    assert "gabor in MAP@5 (hog 50.0 %)" in floor_warning(scoreboard(changed, scores))
