import pandas as pd
import pytest

from cbirbench.report.cohorts import cohorts_of, of_cohort, scores_of
from cbirbench.report.markdown import report
from cbirbench.report.scoreboard import scoreboard


@pytest.fixture
def queried(summary, scores):
    """The small run, with an external cohort whose queries have no masks."""
    entry = {
        "name": "unn",
        "synthetic": False,
        "gallery": "benchmark",
        "query_slices": 24,
        "query_volumes": 12,
        "query_patients": 12,
        "masked_queries": 0,
        "mean_query_mask_fraction": None,
        "data_fingerprint": "abc",
        "structures": {},
        "options": {},
        "warnings": ["scan-3 states no orientation."],
        "figures": [],
    }
    outside = scores.assign(cohort="unn", query_id="unn/" + scores["query_id"])
    outside.loc[outside["metric"] == "relevance-rank", "value"] = float("nan")
    outside.loc[(outside["metric"] == "map@5"), "value"] = 0.25
    both = pd.concat([scores.assign(cohort="phantom"), outside], ignore_index=True)
    return {**summary, "cohorts": [entry]}, both


def test_names_come_after_the_benchmarks_own(summary, queried):
    assert cohorts_of(summary) == [""]
    assert cohorts_of(queried[0]) == ["", "unn"]


def test_scores_are_parted_and_older_tables_are_the_benchmarks_own(summary, scores, queried):
    changed, both = queried
    assert len(scores_of(both, changed, "")) == len(scores_of(both, changed, "unn")) == len(scores)
    assert set(scores_of(both, changed, "unn")["cohort"]) == {"unn"}
    assert len(scores_of(scores, summary, "")) == len(scores)
    assert scores_of(scores, summary, "unn").empty


def test_a_cohort_seen_as_a_run_of_its_own(queried):
    changed, both = queried
    seen = of_cohort(changed, "unn")
    assert seen["benchmark"]["name"] == "unn in phantom"
    assert seen["benchmark"]["synthetic"] is False
    assert seen["benchmark"]["gallery_slices"] == changed["benchmark"]["gallery_slices"]
    assert seen["extractors"] == changed["extractors"]
    board = scoreboard(seen, scores_of(both, changed, "unn"))
    assert board.rows[0].scores["map@5"].mean == 0.25
    own = scoreboard(of_cohort(changed, ""), scores_of(both, changed, ""))
    assert own.rows[0].scores["map@5"].mean > 0.9
    assert own.benchmark == "phantom"


def test_a_cohort_that_is_its_own_gallery_says_so(queried):
    changed, _ = queried
    changed["cohorts"][0]["gallery"] = "self"
    assert of_cohort(changed, "unn")["benchmark"]["name"] == "unn in itself"


def test_the_report_has_a_table_for_the_cohort_and_says_why_it_has_no_rr(queried):
    changed, both = queried
    text = report(changed, both)
    _, _, cohort = text.partition("## Cohort unn\n")
    cohort, _, rest = cohort.partition("## Cohort unn: significance")
    assert "24 query slices (12 scans, 12 patients) of an external cohort" in cohort
    assert "25.0 ± 0.0" in cohort
    assert "RR is undefined: it compares importance maps with masks of the target organ" in cohort
    assert "### Cohort unn" in rest and "scan-3 states no orientation" in rest
    assert "Cohort" not in report({**changed, "cohorts": []}, scores_of(both, changed, ""))


def test_all_cohorts_stand_side_by_side(queried):
    changed, both = queried
    changed["benchmark"]["chance"] = {"map@5": 0.5}
    changed["cohorts"][0]["chance"] = {"map@5": 0.75}
    changed["extractors"][1]["floor"] = True
    text = report(changed, both)
    _, _, rest = text.partition("## All cohorts side by side\n\n")
    lines = rest.split("\n\n")[0].splitlines()
    assert (
        lines[0] == "| queries | patients | metric | chance | simsiam-hu-clip (ours) | *floor:* hog | gabor |"
    )
    assert lines[2:] == [
        "| phantom | 12 | MAP@5 | 50.0 % | **97.9 ± 2.9** | 50.0 ± – | 0.0 ± – |",
        "| phantom | 12 | ACC (5-NN) | – | **97.9 ± 2.9** | 50.0 ± – | 0.0 ± – |",
        "| phantom | 12 | RR | – | **50.0 ± 0.0** | 25.0 ± – | 25.0 ± – |",
        "| unn in phantom | 12 | MAP@5 | 75.0 % | **25.0 ± 0.0** | **25.0 ± –** | **25.0 ± –** |",
        "| unn in phantom | 12 | ACC (5-NN) | – | **97.9 ± 2.9** | 50.0 ± – | 0.0 ± – |",
        "| unn in phantom | 12 | RR | – | – | – | – |",
    ]
    assert "side by side" not in report({**changed, "cohorts": []}, scores_of(both, changed, ""))


def test_the_snippet_tells_cohorts_apart(queried):
    changed, both = queried
    assert 'by = ["cohort", "metric", "extractor"]' in report(changed, both)
    assert 'by = ["metric", "extractor"]' in report({**changed, "cohorts": []}, scores_of(both, changed, ""))
