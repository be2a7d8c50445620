import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbirbench.errors import DataError
from cbirbench.metrics.relevance_rank import RelevanceRank, RelevanceRankOptions


@pytest.fixture(scope="session")
def score(explained):
    def values(maps, masks, absolute=False):
        metric = RelevanceRank(RelevanceRankOptions(absolute=absolute))
        return metric.per_query(explained(maps, masks))

    return values


def slow_rank_accuracy(importance, mask, absolute):
    """Eq. 7 for one query, pixel by pixel."""
    pixels = []
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            value = float(importance[row, column])
            pixels.append((-abs(value) if absolute else -value, row, column))
    size = int(mask.sum())
    top = sorted(pixels)[:size]
    return sum(1 for _, row, column in top if mask[row, column]) / size


def test_by_hand(score):
    importance = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3]], dtype=np.float32)
    mask = np.array([[True, False, False], [False, True, True]])
    # The three most important are .9, .8 and .7; the mask holds two of them.
    np.testing.assert_array_equal(score([importance], [mask]), [2 / 3])


def test_the_absolute_map_is_another_ranking(score):
    importance = np.array([[-0.9, 0.1], [0.5, -0.2]], dtype=np.float32)
    mask = np.array([[True, False], [True, False]])
    np.testing.assert_array_equal(score([importance], [mask]), [0.5])
    np.testing.assert_array_equal(score([importance], [mask], absolute=True), [1.0])


def test_ties_are_ordered_by_position(score):
    importance = np.array([[1, 2, 1], [1, 1, 1]], dtype=np.float32)
    first, later = np.zeros((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool)
    first[0, :2] = True
    later[0, 1:] = True
    np.testing.assert_array_equal(score([importance, importance], [first, later]), [1.0, 0.5])


def test_a_mask_over_the_whole_slice_scores_one(score):
    importance = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(score([importance], [np.ones((5, 4), dtype=bool)]), [1.0])


def test_what_is_undefined_is_nan_and_does_not_touch_the_rest(score):
    good = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = np.array([[False, False, False], [False, True, True]])
    with_nan, with_infinity = good.copy(), good.copy()
    with_nan[0, 0], with_infinity[0, 0] = np.nan, np.inf
    sign_only = np.where(mask, 1, -1).astype(np.float32)
    constants = [np.full((2, 3), value, dtype=np.float32) for value in (0, 1, 0.3)]
    maps = [good, None, good, good, with_nan, with_infinity, *constants, good]
    masks = [mask, mask, None, np.zeros_like(mask), mask, mask, mask, mask, mask, mask]
    np.testing.assert_array_equal(score(maps, masks), [1.0] + [np.nan] * 8 + [1.0])
    np.testing.assert_array_equal(score([sign_only], [mask]), [1.0])
    np.testing.assert_array_equal(score([sign_only], [mask], absolute=True), [np.nan])


def test_no_query_is_no_value(score):
    assert score([], []).shape == (0,)


def test_queries_of_different_sizes_and_of_one_pixel_a_row(score):
    maps = [np.arange(n * m, dtype=np.float32).reshape(n, m) for n, m in ((4, 1), (1, 4), (3, 5))]
    masks = [np.arange(m.size).reshape(m.shape) >= m.size - 2 for m in maps]
    np.testing.assert_array_equal(score(maps, masks), [1.0, 1.0, 1.0])


def test_a_map_that_is_not_at_native_size_is_an_error(score):
    with pytest.raises(DataError, match=r"Query 0 .*\(4, 4\).*\(8, 8\)"):
        score([np.eye(4, dtype=np.float32)], [np.eye(8, dtype=bool)])


@settings(deadline=None, max_examples=60)
@given(data=st.data(), absolute=st.booleans())
def test_equals_a_slow_implementation(score, data, absolute):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    # Few distinct values, so that ties abound, or any.
    values = data.draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32)]))
    importance = data.draw(arrays(np.float32, shape, elements=values))
    mask = data.draw(arrays(np.bool_, shape))
    ranked = np.abs(importance) if absolute else importance
    expected = np.nan
    if mask.any() and np.ptp(ranked.astype(float)) > 0:
        expected = slow_rank_accuracy(importance, mask, absolute)
    np.testing.assert_allclose(score([importance], [mask], absolute), [expected], rtol=0, atol=1e-9)


def test_nothing_is_printed_and_nothing_is_changed(score, capfd):
    importance = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = importance > 3
    before = importance.copy(), mask.copy()
    score([importance], [mask])
    capfd.readouterr()
    score([importance, importance], [mask, mask])
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(importance, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_it_says_what_it_is():
    metric = RelevanceRank(RelevanceRankOptions())
    assert (metric.name, metric.depth, metric.needs) == ("relevance-rank", 0, "explanations")
    extra = RelevanceRankOptions.model_fields["absolute"].json_schema_extra
    assert RelevanceRankOptions().absolute is False and extra["profiles"] == {"released-code": True}
