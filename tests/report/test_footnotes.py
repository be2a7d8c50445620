import pandas as pd

from cbirbench.report.footnotes import footnotes, runs_warning
from cbirbench.report.scoreboard import scoreboard


def test_too_few_patients_are_marked_and_said(summary, scores):
    few = scores[scores["patient_id"].isin(["p0", "p1", "p2"])]
    board = scoreboard(summary, few)
    assert board.patients == 3
    assert [board.marks(r, "map@5") for r in board.rows] == ["•", "‡", "‡"]
    lines = footnotes(board)
    assert any(line.startswith("‡ the comparison with simsiam-hu-clip (ours) cannot reach") for line in lines)
    assert any(line.startswith("3 query patients say little") for line in lines)
    assert any("is significantly better than none of the others" in line for line in lines)


def test_ten_patients_need_no_warning(summary, scores):
    ten = scores[scores["patient_id"].isin([f"p{i}" for i in range(10)])]
    assert not any("say little" in line for line in footnotes(scoreboard(summary, ten)))


def test_departures_stand_beside_the_table(summary, scores):
    board = scoreboard(summary, scores)
    assert footnotes(board)[-1] == (
        "Changed from the profile: simsiam-hu-clip.epochs 5, not 250 (by the benchmark)."
    )


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
    assert runs_warning(board) in footnotes(board)


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
