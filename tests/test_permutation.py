"""Permutation tests against hand-worked cases, a slow enumeration and SciPy's independent implementation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from cbirbench.permutation import holm, permutation_test, runs_needed, sign_flip_test

# Tenths make ties common; floats make them rare.
SCORES = st.one_of(st.integers(0, 10).map(lambda n: n / 10), st.floats(0, 1, width=16))


class TestPermutationOverRuns:
    def test_three_separated_runs_against_three_stop_at_one_in_twenty(self):
        result = permutation_test([0.9, 0.8, 0.7], [0.1, 0.2, 0.3], alternative="greater")
        assert result.p == result.smallest_p == 1 / 20
        assert result.exact
        assert result.rearrangements == 20
        assert result.difference == pytest.approx(0.6)
        assert not result.reachable  # .05 is not below .05

    def test_two_sided_counts_the_swapped_split_too(self):
        result = permutation_test([0.9, 0.8, 0.7], [0.1, 0.2, 0.3], alternative="two-sided")
        assert result.p == result.smallest_p == 2 / 20

    def test_worse_first_side_is_not_better(self):
        # Of the splits {1}|{2,3}, {2}|{1,3}, {3}|{1,2} all have a difference >= 1 - 2.5.
        assert permutation_test([1.0], [2.0, 3.0], alternative="greater").p == 1.0
        assert permutation_test([3.0], [1.0, 2.0], alternative="greater").p == 1 / 3

    def test_hand_worked_middle_case(self):
        # Splits of 1,2,3,4 into two and two, by the first side's sum: 3,4,5,5,6,7; observed {2,4} is 6.
        assert permutation_test([2, 4], [1, 3], alternative="greater").p == 2 / 6
        # |difference| is 2,1,0,0,1,2; observed 1.
        assert permutation_test([2, 4], [1, 3], alternative="two-sided").p == 4 / 6

    def test_equal_scores_give_one(self):
        assert permutation_test([0.5, 0.5], [0.5, 0.5, 0.5], alternative="greater").p == 1.0

    def test_ties_by_rounding_count_as_equal(self):
        # 0.1 + 0.2 and 0.3 + 0.0 differ in the last bit; as statistics they tie.
        result = permutation_test([0.3, 0.0], [0.1, 0.2], alternative="greater")
        assert result.p == 4 / 6

    def test_twenty_runs_each_are_drawn_and_never_reach_zero(self):
        result = permutation_test(np.linspace(0.8, 0.9, 20), np.linspace(0.1, 0.2, 20), alternative="greater")
        assert not result.exact
        assert result.p == result.smallest_p == 1 / 10_001
        assert result.reachable

    def test_draws_depend_on_the_seed_alone(self):
        rng = np.random.default_rng(3)
        a, b = rng.normal(0.2, 1, 20), rng.normal(0, 1, 20)
        first, again, other = (permutation_test(a, b, alternative="greater", seed=s).p for s in (1, 1, 2))
        assert first == again != other
        assert first == pytest.approx(other, abs=0.03)

    def test_undefined_runs_are_dropped_and_counted(self):
        result = permutation_test([0.9, math.nan, 0.8], [0.1, 0.2], alternative="greater")
        assert (result.n_a, result.n_b, result.dropped) == (2, 2, 1)
        assert result.p == 1 / 6

    def test_no_defined_run_gives_nan_with_a_reason(self):
        result = permutation_test([math.nan], [0.1, 0.2], alternative="greater")
        assert math.isnan(result.p)
        assert math.isnan(result.difference)
        assert not result.reachable
        assert "no run on one side" in result.note

    @given(
        a=st.lists(SCORES, min_size=2, max_size=5),
        b=st.lists(SCORES, min_size=2, max_size=5),
        alternative=st.sampled_from(["greater", "two-sided"]),
    )
    def test_equals_a_slow_enumeration(self, a, b, alternative):
        pooled, observed = a + b, math.fsum(a) / len(a) - math.fsum(b) / len(b)
        at_least = total = 0
        for chosen in itertools.combinations(range(len(pooled)), len(a)):
            one = math.fsum(pooled[i] for i in chosen) / len(a)
            two = math.fsum(v for i, v in enumerate(pooled) if i not in chosen) / len(b)
            value, reference = (one - two, observed)
            if alternative == "two-sided":
                value, reference = abs(value), abs(reference)
            at_least += value >= reference - 1e-12 * max(pooled)
            total += 1
        result = permutation_test(a, b, alternative=alternative)
        assert result.p == at_least / total
        assert 0 < result.smallest_p <= result.p <= 1

    @pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (2, 7)])
    def test_agrees_with_scipy_where_exact(self, sizes):
        rng = np.random.default_rng(sum(sizes))
        a, b = rng.normal(0.3, 1, sizes[0]), rng.normal(0, 1, sizes[1])
        theirs = scipy.stats.permutation_test(
            (a, b), lambda x, y: x.mean() - y.mean(), alternative="greater", n_resamples=np.inf
        )
        assert permutation_test(a, b, alternative="greater").p == pytest.approx(theirs.pvalue, abs=1e-12)

    def test_agrees_with_scipy_where_drawn(self):
        rng = np.random.default_rng(8)
        a, b = rng.normal(0.4, 1, 20), rng.normal(0, 1, 20)
        theirs = scipy.stats.permutation_test(
            (a, b),
            lambda x, y, axis: x.mean(axis) - y.mean(axis),
            alternative="greater",
            n_resamples=20_000,
            vectorized=True,
            rng=np.random.default_rng(0),
        )
        assert permutation_test(a, b, alternative="greater").p == pytest.approx(theirs.pvalue, abs=0.015)

    def test_rejects_at_its_level_when_nothing_differs(self):
        rng = np.random.default_rng(0)
        p = [permutation_test(*rng.normal(size=(2, 5)), alternative="greater").p for _ in range(400)]
        assert np.mean(np.array(p) <= 0.05) < 0.09


class TestSignFlipOverPatients:
    def test_hand_worked_two_patients(self):
        # Patient sums 3 and -1. Signs ++ 2, +- 4, -+ -4, -- -2: two of four reach 2; by size all four do.
        differences, patients = [1, 2, -1], ["x", "x", "y"]
        assert sign_flip_test(differences, patients, alternative="greater").p == 2 / 4
        assert sign_flip_test(differences, patients, alternative="two-sided").p == 1.0

    def test_flips_a_patients_queries_together(self):
        # Ten queries of one patient are one observation, however clear they look.
        result = sign_flip_test([1.0] * 10, ["x"] * 10, alternative="greater")
        assert result.p == result.smallest_p == 1 / 2
        assert (result.n_a, result.n_b) == (1, 1)
        apart = sign_flip_test([1.0] * 10, [f"x{i}" for i in range(10)], alternative="greater")
        assert apart.p == apart.smallest_p == 1 / 1024

    def test_statistic_is_the_mean_over_queries(self):
        result = sign_flip_test([0.3, 0.3, 0.0], ["x", "x", "y"], alternative="greater")
        assert result.difference == pytest.approx(0.2)

    def test_two_sided_smallest_p_is_twice_as_large(self):
        result = sign_flip_test([1, 1, 1, 1, 1], list("abcde"), alternative="two-sided")
        assert result.p == result.smallest_p == 2 / 32
        assert not result.reachable

    def test_undefined_pairs_are_dropped_and_counted(self):
        result = sign_flip_test([1, math.nan, 1, math.nan], list("abcc"), alternative="greater")
        assert (result.n_a, result.dropped) == (2, 2)
        assert result.p == 1 / 4

    @pytest.mark.parametrize(("differences", "dropped"), [([], 0), ([math.nan], 1)])
    def test_nothing_defined_gives_nan_with_a_reason(self, differences, dropped):
        result = sign_flip_test(differences, ["x"] * dropped, alternative="greater")
        assert math.isnan(result.p)
        assert result.dropped == dropped
        assert "no query is defined on both sides" in result.note

    def test_wrong_number_of_patients_is_refused(self):
        with pytest.raises(ValueError, match="one patient a difference"):
            sign_flip_test([1.0, 2.0], ["x"], alternative="greater")

    def test_thirteen_patients_are_exact_and_fourteen_drawn(self):
        thirteen = sign_flip_test([1.0] * 13, [str(i) for i in range(13)], alternative="greater")
        fourteen = sign_flip_test([1.0] * 14, [str(i) for i in range(14)], alternative="greater")
        assert thirteen.exact
        assert thirteen.p == 1 / 8192
        assert not fourteen.exact
        # Of 10000 draws about .6 give the observed pattern.
        assert 1 / 10_001 == fourteen.smallest_p <= fourteen.p <= 6 / 10_001

    @given(
        pairs=st.lists(
            st.tuples(st.integers(-10, 10).map(lambda n: n / 10), st.sampled_from("abcdef")),
            min_size=1,
            max_size=12,
        ),
        alternative=st.sampled_from(["greater", "two-sided"]),
    )
    @example(pairs=[(-0.7, "a"), (0.8, "a"), (0.0, "b"), (-0.1, "a")], alternative="greater")  # they cancel
    def test_equals_a_slow_enumeration(self, pairs, alternative):
        names = sorted({patient for _, patient in pairs})
        at_least = 0
        observed = math.fsum(d for d, _ in pairs)
        for signs in itertools.product([1, -1], repeat=len(names)):
            sign = dict(zip(names, signs, strict=True))
            value, reference = math.fsum(sign[p] * d for d, p in pairs), observed
            if alternative == "two-sided":
                value, reference = abs(value), abs(reference)
            at_least += value >= reference - 1e-9
        differences, patients = zip(*pairs, strict=True)
        result = sign_flip_test(differences, patients, alternative=alternative)
        assert result.p == at_least / 2 ** len(names)
        assert 0 < result.smallest_p <= result.p <= 1

    @pytest.mark.parametrize("alternative", ["greater", "two-sided"])
    def test_agrees_with_scipy_with_a_query_a_patient(self, alternative):
        differences = np.random.default_rng(5).normal(0.4, 1, 9)
        theirs = scipy.stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            alternative=alternative,
            n_resamples=np.inf,
        )
        ours = sign_flip_test(differences, [str(i) for i in range(9)], alternative=alternative)
        assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)


class TestHolm:
    def test_hand_worked(self):
        # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .06, made monotone.
        assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])

    def test_nan_is_no_test(self):
        adjusted = holm([0.04, math.nan, 0.02])
        assert adjusted[0] == pytest.approx(0.04)
        assert adjusted[2] == pytest.approx(0.04)
        assert math.isnan(adjusted[1])

    def test_nothing_to_correct(self):
        assert holm([]) == []
        assert holm([0.3]) == [0.3]

    @given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
    def test_rejects_exactly_what_the_step_down_procedure_rejects(self, p_values):
        adjusted = holm(p_values)
        order = sorted(range(len(p_values)), key=p_values.__getitem__)
        rejected = set()
        for rank, place in enumerate(order):
            if (len(p_values) - rank) * p_values[place] >= 0.05:
                break
            rejected.add(place)
        assert {i for i, p in enumerate(adjusted) if p < 0.05} == rejected

    @given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
    def test_keeps_order_and_never_lowers(self, p_values):
        adjusted = holm(p_values)
        assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
        by_p = [adjusted[i] for i in sorted(range(len(p_values)), key=p_values.__getitem__)]
        assert by_p == sorted(by_p)


class TestEffect:
    def test_share_of_pairs_of_runs_in_which_the_first_is_higher(self):
        # 3 beats 1 and 2; 2 beats 1 and ties with 2: 3.5 of 4 pairs.
        assert permutation_test([2, 3], [1, 2], alternative="greater").effect == 3.5 / 4
        assert permutation_test([1, 2], [2, 3], alternative="two-sided").effect == 0.5 / 4

    def test_apart_and_equal(self):
        assert permutation_test([0.9, 0.8], [0.1, 0.2, 0.3], alternative="greater").effect == 1.0
        assert permutation_test([0.1], [0.2, 0.3], alternative="greater").effect == 0.0
        assert permutation_test([0.5, 0.5], [0.5], alternative="greater").effect == 0.5

    def test_runs_that_only_rounding_parts_are_a_tie(self):
        assert permutation_test([0.1 + 0.2], [0.3], alternative="greater").effect == 0.5

    def test_share_of_patients_whose_mean_difference_is_above_0(self):
        # Patient x gains .3 - .1, y loses, z stays as it was, and 0.1 + 0.2 - 0.3 is 0 but for rounding.
        differences = [0.3, -0.1, -0.4, 0.0, 0.1, 0.2, -0.3]
        result = sign_flip_test(differences, ["x", "x", "y", "z", "u", "u", "u"], alternative="greater")
        assert result.effect == (1 + 0.5 + 0.5) / 4

    def test_one_patient_whose_differences_cancel_is_a_tie(self):
        assert sign_flip_test([0.1, 0.2, -0.3], ["x"] * 3, alternative="greater").effect == 0.5

    def test_where_nothing_is_defined_there_is_none(self):
        assert math.isnan(permutation_test([math.nan], [0.1], alternative="greater").effect)
        assert math.isnan(sign_flip_test([], [], alternative="greater").effect)

    @given(
        a=st.lists(SCORES, min_size=1, max_size=6),
        b=st.lists(SCORES, min_size=1, max_size=6),
    )
    def test_is_mann_and_whitneys_u_as_a_share(self, a, b):
        theirs = scipy.stats.mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b))
        ours = permutation_test(a, b, alternative="greater").effect
        assert ours == pytest.approx(theirs, abs=1e-12)
        assert permutation_test(b, a, alternative="greater").effect == pytest.approx(1 - ours)


class TestRunsNeeded:
    @pytest.mark.parametrize(
        ("family", "alternative", "runs"),
        [
            (1, "greater", 4),  # 1/20 is not below .05, 1/70 is
            (1, "two-sided", 4),  # 2/70
            (3, "greater", 4),  # 3/70 = .043
            (4, "greater", 5),  # 4/70 = .057, 4/252 = .016
            (2, "two-sided", 5),  # 4/70
            (9, "greater", 5),  # 9/252 = .036
            (9, "two-sided", 6),  # 18/252 = .071, 18/924 = .019
            (100, "greater", 7),  # 100/924 = .108, 100/3432 = .029
            (400, "greater", 8),  # 400/3432 = .117; beyond 10 000 ways p stops at 1/10 001: .040
            (600, "greater", None),  # 600/10 001 = .060, with any number of runs
        ],
    )
    def test_hand_worked(self, family, alternative, runs):
        assert runs_needed(family, alternative=alternative) == runs

    @pytest.mark.parametrize("alternative", ["greater", "two-sided"])
    @pytest.mark.parametrize("family", [1, 3, 9, 18])
    def test_the_test_itself_reaches_the_level_there_and_not_before(self, family, alternative):
        runs = runs_needed(family, alternative=alternative)

        def smallest(n):
            result = permutation_test(range(n, 2 * n), range(n), alternative=alternative)
            assert result.p == result.smallest_p
            return holm([result.p] * family)[0]

        assert smallest(runs) < 0.05 <= smallest(runs - 1)

    def test_more_permutations_can_help(self):
        assert runs_needed(600, alternative="greater", permutations=20_000) == 8
