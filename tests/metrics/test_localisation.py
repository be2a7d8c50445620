import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbirbench.errors import DataError
from cbirbench.metrics.localisation import QUIET, quantus_value, score_maps, top_ranks
from cbirbench.metrics.quantus_import import import_quantus

GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)
MASK = np.array([[False, False, False], [False, True, True]])


def changed(value):
    importance = GOOD.copy()
    importance[0, 0] = value
    return importance


@pytest.mark.parametrize(
    ("importance", "mask"),
    [
        (None, MASK),
        (GOOD, None),
        (None, None),
        (GOOD, np.zeros_like(MASK)),
        (changed(np.nan), MASK),
        (changed(np.inf), MASK),
        (changed(-np.inf), MASK),
        *((np.full((2, 3), value, dtype=np.float32), MASK) for value in (0, 1, 0.3, -2)),
    ],
)
def test_what_is_undefined_is_not_scored_and_does_not_touch_the_rest(explained, importance, mask):
    seen = []

    def score(prepared, organ):
        seen.append((prepared, organ))
        return len(seen) / 10

    evidence = explained([GOOD, importance, GOOD], [MASK, mask, MASK])
    np.testing.assert_array_equal(score_maps(evidence, score), [0.1, np.nan, 0.2])
    assert all(prepared is GOOD and organ is MASK for prepared, organ in seen)


def test_a_map_is_prepared_before_it_is_called_constant_and_after_it_is_called_finite(explained):
    signs = np.where(MASK, 1, -1).astype(np.float32)
    score = score_maps(explained([signs, GOOD], [MASK, MASK]), lambda prepared, _: prepared.sum(), np.abs)
    np.testing.assert_array_equal(score, [np.nan, 15])
    clipped = score_maps(
        explained([changed(-np.inf)], [MASK]), lambda prepared, _: 1.0, lambda m: np.maximum(m, 0)
    )
    np.testing.assert_array_equal(clipped, [np.nan])


def test_no_query_is_no_value(explained):
    assert score_maps(explained([], []), lambda prepared, _: 1.0).shape == (0,)


def test_a_map_that_is_not_at_native_size_is_an_error(explained):
    evidence = explained([GOOD, np.eye(4, dtype=np.float32)], [MASK, np.eye(8, dtype=bool)])
    with pytest.raises(DataError, match=r"Query 1 .*\(4, 4\).*\(8, 8\)"):
        score_maps(evidence, lambda prepared, _: 1.0)


def test_ranks_by_hand():
    importance = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3]], dtype=np.float32)
    np.testing.assert_array_equal(top_ranks(importance, 3), [[3, 0, 2], [0, 1, 0]])
    np.testing.assert_array_equal(top_ranks(importance, 6), [[6, 1, 5], [2, 4, 3]])
    # Three pixels share the second place: by position.
    tied = np.array([[1, 2, 1], [0, 1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(top_ranks(tied, 3), [[2, 3, 1], [0, 0, 0]])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_ranks_equal_those_of_a_full_sort(data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    # Few distinct values, so that ties abound, or any; with both zeros, which are one value.
    values = data.draw(
        st.sampled_from([st.sampled_from([-1.0, -0.0, 0.0, 1.0]), st.floats(-1e6, 1e6, width=32)])
    )
    importance = data.draw(arrays(np.float32, shape, elements=values))
    count = data.draw(st.integers(1, importance.size))
    before = importance.copy()
    by_rank = sorted(np.ndindex(shape), key=lambda place: (-importance[place], place))
    expected = np.zeros(shape)
    for position, place in enumerate(by_rank[:count]):
        expected[place] = count - position
    np.testing.assert_array_equal(top_ranks(importance, count), expected)
    np.testing.assert_array_equal(importance, before)


def test_quantus_is_handed_one_map_of_any_layout():
    metric = import_quantus("any").RelevanceRankAccuracy(abs=False, **QUIET)
    for shape in ((4, 1), (1, 4), (2, 2), (3, 5)):
        importance = np.arange(np.prod(shape), dtype=float).reshape(shape)
        assert quantus_value(metric, importance, importance >= importance.max() - 1) == 1.0
        assert quantus_value(metric, importance, importance == 0) == 0.0
