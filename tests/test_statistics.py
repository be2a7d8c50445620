"""Which test a pair gets, its side, the family that is corrected together, and what malformed scores meet."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from cbirbench import statistics
from cbirbench.errors import DataError
from cbirbench.statistics import compare


def rows(extractor, metric, values):
    """Score rows from ``values[run][query] = (patient, value)``."""
    return [
        ("cohort", extractor, run, metric, f"q{query}", patient, value)
        for run, queries in enumerate(values)
        for query, (patient, value) in enumerate(queries)
    ]


def frame(*parts):
    return pd.DataFrame(itertools.chain(*parts), columns=list(statistics.SCORE_COLUMNS))


class TestCompare:
    def test_two_trained_extractors_use_the_papers_test(self):
        scores = frame(
            rows("ours", "map@5", [[("x", 0.8), ("y", 1.0)], [("x", 0.6), ("y", 1.0)]]),
            rows("base", "map@5", [[("x", 0.2), ("y", 0.4)], [("x", 0.2), ("y", 0.2)]]),
        )
        (found,) = compare(scores, ["ours", "base"], ["map@5"])
        assert found.result.test == "permutation over runs"
        assert found.result.alternative == "greater"
        assert (found.result.n_a, found.result.n_b) == (2, 2)
        assert found.result.difference == pytest.approx(0.85 - 0.25)
        assert found.result.p == found.p_holm == 1 / 6
        assert not found.reachable

    def test_a_single_run_on_one_side_flips_signs_over_patients(self):
        scores = frame(
            # Means over runs per query: .9, .5, .5; against .4, .5, .1: differences .5 0 of x, .4 of y.
            rows(
                "ours",
                "map@5",
                [[("x", 0.8), ("x", 0.4), ("y", 0.5)], [("x", 1.0), ("x", 0.6), ("y", 0.5)]],
            ),
            rows("hog", "map@5", [[("x", 0.4), ("x", 0.5), ("y", 0.1)]]),
        )
        (found,) = compare(scores, ["ours", "hog"], ["map@5"])
        assert found.result.test == "sign-flip over patients"
        assert found.result.difference == pytest.approx(0.3)
        assert found.result.p == 1 / 4
        assert found.patients == 2

    def test_only_the_first_named_is_tested_one_sided(self):
        scores = frame(*(rows(name, "m", [[("x", 0.1), ("y", 0.2)]]) for name in "cab"))
        found = compare(scores, ["c", "a", "b"], ["m"])
        assert [(f.a, f.b, f.result.alternative) for f in found] == [
            ("c", "a", "greater"),
            ("c", "b", "greater"),
            ("a", "b", "two-sided"),
        ]

    def test_holm_spans_all_metrics(self):
        good, bad = [[(str(i), 1.0) for i in range(8)]], [[(str(i), 0.0) for i in range(8)]]
        parts = [rows("a", m, good) + rows("b", m, bad) for m in ("m1", "m2", "m3")]
        found = compare(frame(*parts), ["a", "b"], ["m1", "m2", "m3"])
        assert [f.result.p for f in found] == [1 / 256] * 3
        assert [f.p_holm for f in found] == [3 / 256] * 3 == [f.smallest_p_holm for f in found]
        assert all(f.significant and f.better == "a" for f in found)

    def test_correction_can_put_the_level_out_of_reach(self):
        values = [[(str(i), 1.0 - i / 50) for i in range(5)]]
        zeros = [[(str(i), 0.0) for i in range(5)]]
        scores = frame(*(rows("a", m, values) + rows("b", m, zeros) for m in ("m1", "m2")))
        for found in compare(scores, ["a", "b"], ["m1", "m2"]):
            assert found.result.reachable  # 1/32
            assert not found.reachable  # 2/32
            assert not found.significant

    def test_two_sided_winner_may_be_the_second(self):
        many = [str(i) for i in range(12)]
        scores = frame(
            rows("first", "m", [[(p, 0.5) for p in many]]),
            rows("low", "m", [[(p, 0.1) for p in many]]),
            rows("high", "m", [[(p, 0.9) for p in many]]),
        )
        found = {(f.a, f.b): f for f in compare(scores, ["first", "low", "high"], ["m"])}
        assert found["low", "high"].better == "high"
        assert found["first", "low"].better == "first"
        # The first-named is asked only whether it is better.
        assert found["first", "high"].better == ""

    def test_queries_out_of_scope_are_not_dropped_pairs(self):
        nan = math.nan
        scores = frame(
            rows("a", "rr", [[("x", 0.5), ("y", nan), ("z", 0.4), ("u", nan)]]),
            rows("b", "rr", [[("x", 0.1), ("y", nan), ("z", nan), ("u", nan)]]),
        )
        (found,) = compare(scores, ["a", "b"], ["rr"])
        assert found.result.dropped == 1
        assert found.result.n_a == 1
        assert found.patients == 2

    def test_an_extractor_without_scores_is_not_tested_and_costs_nothing(self):
        scores = frame(rows("a", "m", [[("x", 0.5)]]), rows("b", "m", [[("x", 0.1)]]))
        found = compare(scores, ["a", "b", "absent"], ["m"])
        assert [math.isnan(f.p_holm) for f in found] == [False, True, True]
        assert found[0].p_holm == 1 / 2
        assert "no query is defined" in found[1].result.note

    def test_row_order_does_not_matter(self):
        rng = np.random.default_rng(2)
        scores = frame(
            *(
                rows(n, "m", [[(str(i % 20), float(rng.random())) for i in range(40)] for _ in range(r)])
                for n, r in (("a", 3), ("b", 3), ("c", 1))
            )
        )
        shuffled = scores.sample(frac=1, random_state=1)
        assert compare(scores, ["a", "b", "c"], ["m"]) == compare(shuffled, ["a", "b", "c"], ["m"])

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda s: s.drop(columns="patient_id"), "lacks the columns patient_id"),
            (lambda s: pd.concat([s, s]), "query 'q0' twice for a, run 0, m"),
            (lambda s: pd.concat([s, s.assign(benchmark="other")]), "mixes 2 benchmarks: cohort, other"),
            (lambda s: pd.concat([s, s.assign(run=1, patient_id="y")]), "one query to two patients"),
        ],
    )
    def test_malformed_scores_are_refused(self, spoil, message):
        scores = frame(rows("a", "m", [[("x", 0.5)]]))
        with pytest.raises(DataError, match=message):
            compare(spoil(scores), ["a"], ["m"])
