from cbirbench.report.cautions import cautions
from cbirbench.report.footnotes import footnotes
from cbirbench.report.scoreboard import scoreboard


def test_too_few_patients_are_marked_and_said(summary, scores):
    few = scores[scores["patient_id"].isin(["p0", "p1", "p2"])]
    board = scoreboard(summary, few)
    assert board.patients == 3
    assert [board.marks(r, "map@5") for r in board.rows] == ["•", "‡", "‡"]
    lines = footnotes(board)
    assert any(line.startswith("‡ the comparison with simsiam-hu-clip (ours) cannot reach") for line in lines)
    assert any(line.startswith("3 query patients say little") for line in cautions(board))
    assert any("is significantly better than none of the others" in line for line in lines)


def test_departures_stand_beside_the_table(summary, scores):
    board = scoreboard(summary, scores)
    assert footnotes(board)[-1] == (
        "Changed from the profile: simsiam-hu-clip.epochs 5, not 250 (by the benchmark)."
    )


def test_chance_and_reliability_are_explained(explained, scores):
    lines = footnotes(scoreboard(explained, scores))
    assert any(
        "pixels drawn at random score the target organ's share of the slice, 8.0 % here" in s for s in lines
    )
    assert any(line.startswith("Reliability: the rank correlation to expect") for line in lines)


def test_single_maps_below_the_line_are_told_where_their_mean_is_not_warned_of(explained, scores):
    def told():
        return [line for line in footnotes(scoreboard(explained, scores)) if "are among them" in line]

    # The lowest of ours is .85, of hog .20 with a mean of .60; gabor's is not known.
    assert told() == []
    explained["explanations"]["extractors"]["hog"]["reliability"]["mean"] = 0.8
    assert told() == ["Maps with a reliability below 0.8 are among them; the lowest: hog 0.20."]


def test_undefined_maps_are_counted_with_their_reasons(explained, scores):
    lines = footnotes(scoreboard(explained, scores))
    assert "hog: 3 undefined maps (1: NaN; 2: no order)." in lines
    assert "gabor: 12 undefined maps (12: the whole image embeds to zero)." in lines
    assert "gabor: reliability undefined for 2 other maps, left out of its mean." in lines
    assert (
        "hog: 1 masked image of similarity 0 to the whole: embedded to zero, or nothing in common." in lines
    )
    assert "simsiam-hu-clip (ours): reliability undefined for 3 maps, left out of its mean." in lines
    assert not any(line.startswith("hog: reliability undefined") for line in lines)  # the 3 of above


def test_chance_of_metrics_on_neighbours(summary, scores):
    summary["benchmark"]["chance"] = {"map@5": 0.4967, "knn-accuracy@5": 0.3333, "other": 0.1}
    lines = footnotes(scoreboard(summary, scores))
    assert "Chance, neighbours drawn at random: MAP@5 49.7 %, ACC (5-NN) 33.3 %." in lines


def test_what_one_answer_for_every_slice_is_worth(summary, scores):
    summary["benchmark"] |= {
        "chance": {"map@5": 0.5, "knn-accuracy@5": 0.5},
        "query_labels": {"0": 6, "1": 18},
    }
    told = "18 of 24 queries have one label: to answer it of every slice has an ACC (5-NN) of 75.0 %."
    assert told in footnotes(scoreboard(summary, scores))
    summary["benchmark"]["query_labels"] = {"0": 12, "1": 12}
    assert not any("have one label" in line for line in footnotes(scoreboard(summary, scores)))
    without = {**summary, "metrics": ["map@5"]}
    without["benchmark"]["query_labels"] = {"1": 24}
    only = scoreboard(without, scores[scores["metric"] == "map@5"])
    assert not any("have one label" in line for line in footnotes(only))


def test_controls_are_explained_where_there_are_any(explained, scores):
    assert any(line.startswith("Controls know nothing") for line in footnotes(scoreboard(explained, scores)))
    explained["explanations"]["controls"] = {}
    assert not any("Controls" in line for line in footnotes(scoreboard(explained, scores)))


def test_a_table_without_a_floor_says_so(summary, scores):
    def advised(board):
        return any(line.startswith("No floor is among the extractors") for line in footnotes(board))

    assert advised(scoreboard(summary, scores))
    alone = {**summary, "extractors": summary["extractors"][:1]}
    assert not advised(scoreboard(alone, scores[scores["extractor"] == "simsiam-hu-clip"]))
    summary["extractors"][1]["floor"] = True
    assert not advised(scoreboard(summary, scores))
    for item in summary["extractors"]:  # as runs of before there were floors have it
        del item["floor"]
    assert not advised(scoreboard(summary, scores))


def test_one_comparison_is_not_corrected(summary, scores):
    pair = {**summary, "extractors": summary["extractors"][:2], "metrics": ["map@5"]}
    chosen = scores[scores["extractor"].isin(["simsiam-hu-clip", "hog"]) & (scores["metric"] == "map@5")]
    lines = footnotes(scoreboard(pair, chosen))
    assert (
        "† simsiam-hu-clip (ours) scores significantly higher than this extractor (one-sided p < 0.05)."
        in lines
    )
