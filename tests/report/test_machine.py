import json
import math

import numpy as np
import pandas as pd

from cbirbench.report.machine import machine_report
from cbirbench.report.scoreboard import scoreboard


def test_scores_are_fractions_and_the_summary_is_kept(summary, scores):
    text = machine_report(summary, [scoreboard(summary, scores)])
    document = json.loads(text)
    assert document["profile"] == "paper"
    assert document["departures"] == summary["departures"]
    ours, hog, _ = document["scores"]
    assert (ours["extractor"], ours["aliases"], ours["runs"]) == ("simsiam-hu-clip", ["ours"], 2)
    assert ours["metrics"]["map@5"]["mean"] == (23 / 24 + 1) / 2
    assert ours["metrics"]["map@5"]["best"] is True
    assert hog["metrics"]["map@5"]["sd"] is None
    assert hog["metrics"]["relevance-rank"]["undefined"] == 1
    assert document["queries"]["relevance-rank"] == {"defined": 12, "all": 24}
    assert document["query_patients"] == 12


def test_every_comparison_is_there(summary, scores):
    significance = json.loads(machine_report(summary, [scoreboard(summary, scores)]))["significance"]
    assert (significance["family"], significance["correction"]) == (9, "Holm")
    first = significance["comparisons"][0]
    assert (first["metric"], first["a"], first["b"]) == ("map@5", "simsiam-hu-clip", "hog")
    assert first["test"] == "sign-flip over patients"
    assert first["better"] == "simsiam-hu-clip"
    # Eleven whole patients and one with a lowered first query: all twelve favour ours.
    assert first["p"] == first["smallest_p"] == 1 / 4096
    assert first["p_holm"] == 9 / 4096
    assert first["effect"] == 1.0
    assert significance["warning"] is None


def test_a_warning_of_too_few_runs_is_there(summary, scores):
    twice = pd.concat([scores, scores[scores["run"] == 0].assign(run=2)])
    twice = pd.concat(
        [twice, scores[(scores["run"] == 0) & (scores["extractor"] != "simsiam-hu-clip")].assign(run=1)]
    )
    significance = json.loads(machine_report(summary, [scoreboard(summary, twice)]))["significance"]
    assert "Too few training runs: 9 of 9 tests" in significance["warning"]


def test_floors_and_what_is_to_be_minded_are_there(summary, scores):
    summary["extractors"][1]["floor"] = True
    summary["benchmark"]["chance"] = {"map@5": 0.5}
    document = json.loads(machine_report(summary, [scoreboard(summary, scores)]))
    assert [item["floor"] for item in document["scores"]] == [False, True, False]
    assert document["benchmark"]["chance"] == {"map@5": 0.5}
    assert any("gabor in MAP@5 (hog 50.0 %)" in line for line in document["cautions"])


def test_it_is_strict_json_whatever_the_summary_holds(summary, scores):
    summary["benchmark"]["mean_query_mask_fraction"] = math.nan
    summary["extra"] = {"numpy": np.float32(0.5), "count": np.int64(3), "inf": (math.inf, 1)}

    def refuse(constant):
        raise AssertionError(constant)

    board = scoreboard(summary, scores[scores["extractor"] != "gabor"])
    document = json.loads(machine_report(summary, [board]), parse_constant=refuse)
    assert document["benchmark"]["mean_query_mask_fraction"] is None
    assert document["extra"] == {"numpy": 0.5, "count": 3, "inf": [None, 1]}
    assert document["scores"][2]["metrics"]["map@5"]["mean"] is None
    assert document["significance"]["comparisons"][1]["p"] is None
    assert document["significance"]["comparisons"][1]["effect"] is None


def test_relevance_ranks_carry_chance_and_reliability(explained, scores):
    document = json.loads(machine_report(explained, [scoreboard(explained, scores)]))
    ours, _, gabor = (row["metrics"]["relevance-rank"] for row in document["scores"])
    assert (ours["chance"], ours["over_chance"], ours["reliability"]) == (0.08, 0.5 / 0.08, 0.93)
    assert gabor["reliability"] is None
    assert "chance" not in document["scores"][0]["metrics"]["map@5"]
    assert document["explanations"] == explained["explanations"]


def test_runs_without_explanations_have_no_such_entries(summary, scores):
    document = json.loads(machine_report(summary, [scoreboard(summary, scores)]))
    assert "explanations" not in document
    assert "reliability" not in document["scores"][0]["metrics"]["relevance-rank"]


def test_an_unknown_chance_level_is_null(explained, scores):
    explained["explanations"]["chance"] = math.nan
    del explained["explanations"]["extractors"]["hog"]
    document = json.loads(machine_report(explained, [scoreboard(explained, scores)]))
    hog = document["scores"][1]["metrics"]["relevance-rank"]
    assert (hog["chance"], hog["over_chance"], hog["reliability"]) == (None, None, None)
    assert document["explanations"]["chance"] is None
