import math

import pandas as pd
import pytest

from cbirbench.errors import DataError
from cbirbench.report.footnotes import footnotes
from cbirbench.report.scoreboard import Score, heading, percent, plain, scoreboard, value_text


def row(board, name):
    return next(row for row in board.rows if row.extractor == name)


def test_means_deviations_and_counts(summary, scores):
    board = scoreboard(summary, scores)
    ours = row(board, "simsiam-hu-clip").scores["map@5"]
    # Run means 23/24 and 1: their mean, and the sample deviation of two values, |a - b| / sqrt(2).
    assert ours.mean == pytest.approx((23 / 24 + 1) / 2)
    assert ours.sd == pytest.approx(1 / 24 / math.sqrt(2))
    assert (ours.runs, ours.undefined, ours.expected) == (2, 0, 48)
    hog = row(board, "hog").scores["map@5"]
    assert hog.mean == 0.5
    assert math.isnan(hog.sd)
    assert hog.runs == 1


def test_a_run_counts_as_one_however_many_queries_it_defines(summary, scores):
    # Run 1 keeps a single defined query: the run means 1 and 0 weigh alike.
    map_ours = (scores["extractor"] == "simsiam-hu-clip") & (scores["metric"] == "map@5")
    scores.loc[map_ours & (scores["run"] == 0), "value"] = 1.0
    scores.loc[map_ours & (scores["run"] == 1), "value"] = [0.0] + [math.nan] * 23
    ours = row(scoreboard(summary, scores), "simsiam-hu-clip").scores["map@5"]
    assert ours.mean == 0.5
    assert ours.undefined == 23


def test_a_query_without_the_organ_is_out_of_scope_and_not_undefined(summary, scores):
    board = scoreboard(summary, scores)
    assert (board.scopes["relevance-rank"].defined, board.scopes["relevance-rank"].queries) == (12, 24)
    assert (board.scopes["map@5"].defined, board.scopes["map@5"].queries) == (24, 24)
    undefined = {r.extractor: r.scores["relevance-rank"].undefined for r in board.rows}
    assert undefined == {"simsiam-hu-clip": 0, "hog": 1, "gabor": 0}
    lines = footnotes(board)
    assert "RR on 12 of 24 queries: queries that show the target organ." in lines
    assert "hog: RR undefined for 1 of 12 values, left out of its mean." in lines
    assert not any("MAP@5 on" in line for line in lines)


def test_a_missing_row_is_undefined_like_a_nan(summary, scores):
    whole = scoreboard(summary, scores)
    without = scoreboard(summary, scores.dropna(subset="value"))
    assert [r.scores["relevance-rank"].undefined for r in without.rows] == [
        r.scores["relevance-rank"].undefined for r in whole.rows
    ]


def test_rows_keep_the_users_order_and_show_aliases(summary, scores):
    summary["extractors"].reverse()
    board = scoreboard(summary, scores)
    assert [r.title for r in board.rows] == ["gabor", "hog", "simsiam-hu-clip (ours)"]
    assert [r.runs for r in board.rows] == [1, 1, 2]


def test_the_highest_mean_is_marked_and_ties_are_all_marked(summary, scores):
    board = scoreboard(summary, scores)
    assert [r.scores["map@5"].best for r in board.rows] == [True, False, False]
    scores.loc[scores["metric"] == "map@5", "value"] = 0.1  # sums to other last bits over other counts
    tied = scoreboard(summary, scores)
    assert [r.scores["map@5"].best for r in tied.rows] == [True, True, True]


def test_one_extractor_alone_is_not_the_best(summary, scores):
    summary["extractors"] = summary["extractors"][1:2]
    board = scoreboard(summary, scores[scores["extractor"] == "hog"])
    assert not board.rows[0].scores["map@5"].best
    assert board.comparisons == ()
    assert len(footnotes(board)) == 3  # what the numbers are, RR's scope, departures


def test_significance_is_marked_on_the_row_that_is_beaten(summary, scores):
    board = scoreboard(summary, scores)
    ours, hog, gabor = board.rows
    assert [board.marks(r, "map@5") for r in (ours, hog, gabor)] == ["•", "†", "†"]
    assert board.against_first("hog", "map@5").p_holm < 0.05
    assert board.against_first("simsiam-hu-clip", "map@5") is None
    lines = footnotes(board)
    assert any(line.startswith("† simsiam-hu-clip (ours) scores significantly higher") for line in lines)
    assert any("over 9 comparisons" in line for line in lines)
    assert not any("‡" in line for line in lines)


def test_an_extractor_without_scores_shows_a_dash(summary, scores):
    board = scoreboard(summary, scores[scores["extractor"] != "gabor"])
    gabor = row(board, "gabor")
    assert gabor.runs == 0
    assert percent(gabor.scores["map@5"]) == "–"
    assert board.marks(gabor, "map@5") == ""
    assert [r.scores["map@5"].best for r in board.rows] == [True, False, False]


@pytest.mark.parametrize("column", ["extractor", "metric"])
def test_scores_of_another_run_are_refused(summary, scores, column):
    extra = scores.iloc[:1].assign(**{column: "stranger"})
    with pytest.raises(DataError, match=f"name the {column} stranger"):
        scoreboard(summary, pd.concat([scores, extra]))


@pytest.mark.parametrize(
    ("mean", "sd", "shown"),
    [
        (0.887, 0.0084, "88.7 ± 0.8"),
        (0.5, math.nan, "50.0 ± –"),
        (math.nan, math.nan, "–"),
        (1, 0.0, "100.0 ± 0.0"),
    ],
)
def test_percent(mean, sd, shown):
    assert percent(Score(mean, sd, 1, 0, 1)) == shown


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("map@5", "MAP@5"),
        ("map@4", "MAP@4"),
        ("knn-accuracy@5", "ACC (5-NN)"),
        ("relevance-rank", "RR"),
        ("pointing-game", "pointing"),
        ("top-k-intersection@1000", "top-1000"),
        ("attribution-localisation", "attr. loc."),
        ("map", "map"),
        ("relevance-rank@3", "relevance-rank@3"),
        ("top-k-intersection", "top-k-intersection"),
        ("ndcg@10", "ndcg@10"),
    ],
)
def test_heading(metric, shown):
    assert heading(metric) == shown


def test_plain_keeps_one_line_and_no_control_characters():
    assert plain("a\nb\tc\x1b[31m \u202ed") == "a b c?[31m ?d"
    assert plain("±–•†‡é") == "±–•†‡é"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("none", "none"), (None, "null"), ([1, 2.5], "[1, 2.5]"), (True, "true"), (1e-4, "0.0001")],
)
def test_value_text(value, shown):
    assert value_text(value) == shown


def test_explanations_are_part_of_the_table(summary, explained, scores):
    old = scoreboard(summary, scores)
    assert (old.explanations, old.controls, old.explained(old.rows[0])) == (None, {}, None)
    assert not old.has_chance("relevance-rank")
    board = scoreboard(explained, scores)
    assert board.has_chance("relevance-rank") and not board.has_chance("map@5")
    assert [board.reliability(r) for r in board.rows] == ["0.93", "0.60", "–"]
    assert [board.over_chance(mean) for mean in (0.5, 0.08, math.nan)] == ["6.2×", "1.0×", "–"]
    assert board.controls["center-map"] == {"relevance-rank": 0.25}


def test_controls_have_no_part_in_marks_and_tests(summary, explained, scores):
    old, board = scoreboard(summary, scores), scoreboard(explained, scores)
    assert board.rows == old.rows
    assert board.family == old.family


def test_controls_need_a_metric_of_theirs_in_the_table(explained, scores):
    explained["metrics"] = ["map@5"]
    assert scoreboard(explained, scores[scores["metric"] == "map@5"]).controls == {}
