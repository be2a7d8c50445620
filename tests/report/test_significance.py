import pandas as pd

from cbirbench.report.scoreboard import scoreboard
from cbirbench.report.significance import significance_section


def section(summary, scores):
    return "\n".join(significance_section(scoreboard(summary, scores)))


def cells(text):
    """The cells of every table row, header and rule included."""
    return [
        [c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_the_table_holds_every_pair_of_the_family(summary, scores):
    text = section(summary, scores)
    table = cells(text)
    assert len(table) == 2 + 9
    assert "spans the 9 tests of this table" in text
    assert "*Sign-flip over patients*" in text
    assert "*Permutation over runs*" not in text
    # Of twelve patients all are better under ours.
    assert table[2] == [
        "MAP@5",
        "simsiam-hu-clip",
        "hog",
        "+47.9",
        "1.00",
        "sign-flip over patients",
        "A better",
        "12 patients",
        "0.0002",
        "0.0022",
        "simsiam-hu-clip higher",
    ]
    assert [row[6] for row in table[2:5]] == ["A better", "A better", "two-sided"]
    assert table[8][7] == "11 patients; undefined and left out: 1 of the pairs"


def test_the_effect_is_said_what_it_is_and_ties_count_half(summary, scores):
    text = section(summary, scores)
    assert "probability of superiority" in text and "Ties count half" in text
    table = cells(text)
    effects = {tuple(row[:3]): row[4] for row in table[2:]}
    # On RR hog and gabor score .25 on all patients that both have: every one a tie.
    assert effects["RR", "hog", "gabor"] == "0.50"


def test_a_test_that_cannot_reach_the_level_says_so(summary, scores):
    summary["metrics"] = ["map@5"]
    summary["extractors"] = summary["extractors"][:2]
    chosen = scores[(scores["metric"] == "map@5") & (scores["extractor"] != "gabor")]
    hog = chosen[chosen["extractor"] == "hog"]
    two_runs = pd.concat([chosen, hog.assign(run=1)])
    assert "cannot reach 0.05: this test stops at p = 0.1667" in section(summary, two_runs)
    assert "*Permutation over runs*" in section(summary, two_runs)

    five = [f"p{i}" for i in range(5)]
    summary["metrics"].append("knn-accuracy@5")
    both = scores[scores["metric"].isin(summary["metrics"]) & (scores["extractor"] != "gabor")]
    text = section(summary, both[both["patient_id"].isin(five)])
    assert "cannot reach 0.05 after correction: stops at 0.0625" in text


def test_an_untested_pair_says_why_and_has_no_effect(summary, scores):
    text = section(summary, scores[scores["extractor"] != "gabor"])
    row = cells(text)[3]
    assert row[-3:] == ["–", "–", "not tested: no query is defined on both sides"]
    assert row[3:5] == ["–", "–"]
    assert "spans the 3 tests" in text


def test_one_extractor_has_nothing_to_compare(summary, scores):
    summary["extractors"] = summary["extractors"][:1]
    text = section(summary, scores[scores["extractor"] == "simsiam-hu-clip"])
    assert text == "One extractor: nothing to compare."
