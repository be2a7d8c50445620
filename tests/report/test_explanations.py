import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.report.cautions import explanation_warnings
from cbirbench.report.explanations import AIM, Attention, Explained, explanations
from cbirbench.report.scoreboard import scoreboard


def test_a_run_without_explanations_has_none(summary):
    assert explanations(summary) is None
    assert explanations({**summary, "explanations": None}) is None
    assert explanations({**summary, "explanations": {}}) is None


def test_what_the_summary_says_is_read(explained):
    found = explanations(explained)
    assert found.chance == 0.08
    assert found.controls == {
        "random-map": {"relevance-rank": 0.076},
        "center-map": {"relevance-rank": 0.25},
    }
    hog = found.extractors["hog"]
    assert (hog.maps, hog.undefined, hog.zero_masks) == (24, 3, 1)
    assert (hog.masks, hog.fewest_masks, hog.most_masks) == (2750.4, 500, 3000)
    assert (hog.reliability, hog.lowest_reliability, hog.without_reliability) == (0.6, 0.2, 3)
    assert hog.attention[1] == Attention("liver", True, 0.08, 0.12, 0.16)
    assert math.isnan(found.extractors["gabor"].reliability)
    assert found.extractors["gabor"].without_reliability == 14


def test_null_and_missing_entries_are_nan_or_nothing():
    entry = {
        "chance": None,
        "extractors": {"hog": {"attention": [{"tissue": "bone", "area": None}], "masks": None}},
        "controls": {"random-map": {"relevance-rank": None, "pointing-game": {"mean": None}}},
    }
    found = explanations({"explanations": entry})
    hog = found.extractors["hog"]
    assert math.isnan(found.chance_of("hog"))
    assert all(map(math.isnan, (found.chance, hog.masks, hog.reliability, hog.attention[0].area)))
    assert (hog.maps, hog.undefined, hog.problems, hog.masks_for_aim) == (0, 0, {}, None)
    assert all(math.isnan(mean) for mean in found.controls["random-map"].values())
    assert found.metrics == {"relevance-rank", "pointing-game"}
    empty = explanations({"explanations": {"chance": 0.1}})
    assert (empty.extractors, empty.controls) == ({}, {})


def test_over_chance(explained, scores):
    assert scoreboard(explained, scores).times_chance(0.2) == pytest.approx(2.5)
    explained["explanations"]["chance"] = 0.0
    assert math.isnan(scoreboard(explained, scores).times_chance(0.2))


def test_shares_over_the_area():
    assert Attention("liver", True, 0.08, 0.12, 0.16).times_area(0.12) == pytest.approx(1.5)
    assert math.isnan(Attention("liver", True, 0.08, math.nan, 0.16).times_area(math.nan))
    assert math.isnan(Attention("spleen", False, 0.0, 0.0, 0.0).times_area(0.0))


def with_reliability(reliability, masks):
    return Explained(1, masks, masks, masks, reliability, reliability, 0, {}, 0, ())


def test_masks_for_the_aim_by_hand():
    # .9 (1 - .6) / (.6 (1 - .9)) = 6 times as many; .9 * .2 / (.8 * .1) = 2.25 times: 6750, rounded up.
    assert with_reliability(0.6, 3000).masks_for_aim == 18000
    assert with_reliability(0.8, 3000).masks_for_aim == 6800
    assert with_reliability(0.8, 1).masks_for_aim == 3


@pytest.mark.parametrize("reliability", [math.nan, 0.0, -0.2, AIM, 1.0])
def test_no_number_of_masks_where_there_is_no_telling_or_no_need(reliability):
    assert with_reliability(reliability, 3000).masks_for_aim is None
    assert with_reliability(0.5, math.nan).masks_for_aim is None


@given(st.floats(1e-6, AIM, exclude_max=True), st.integers(1, 10**6))
def test_that_many_masks_reach_the_aim_and_few_more_than_needed(reliability, masks):
    needed = with_reliability(reliability, masks).masks_for_aim
    times = needed / masks
    assert times * reliability / (1 + (times - 1) * reliability) >= AIM - 1e-6
    fewer = (needed / 1.11 - 1) / masks
    assert fewer * reliability / (1 + (fewer - 1) * reliability) < AIM


def test_an_extractor_is_compared_on_its_own_queries(explained, scores):
    """Where maps are undefined on some queries, chance and controls are those of the others."""
    entry = explained["explanations"]["extractors"]["hog"]
    entry["chance"] = 0.2
    entry["controls"] = {"center-map": {"relevance-rank": {"mean": 0.1, "defined": 6}}}
    board = scoreboard(explained, scores)
    row = next(row for row in board.rows if row.extractor == "hog")  # RR 25 %
    assert board.over_chance(row.scores["relevance-rank"].mean, "hog") == "1.2×"
    assert board.over_chance(0.25, "simsiam-hu-clip") == board.over_chance(0.25) == "3.1×"
    assert not any(text.startswith("hog: its maps") for text in explanation_warnings(board))
    assert any(text.startswith("gabor: its maps") for text in explanation_warnings(board))
