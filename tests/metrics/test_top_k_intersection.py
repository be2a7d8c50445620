import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbirbench.errors import DataError
from cbirbench.metrics.quantus_import import import_quantus
from cbirbench.metrics.top_k_intersection import TopKIntersection, TopKIntersectionOptions
from cbirbench.plan import Request
from cbirbench.planning import build


def score(evidence, k):
    return TopKIntersection(TopKIntersectionOptions(k=k)).per_query(evidence)


def slow_intersection(importance, mask, k):
    """Take the highest pixel that is left, k times."""
    left = {place: float(importance[place]) for place in np.ndindex(mask.shape)}
    inside = 0
    for _ in range(k):
        place = max(left, key=lambda at: left[at])  # the first of equal ones, in the order of insertion
        inside += bool(mask[place])
        del left[place]
    return inside / k


def test_by_hand(explained):
    importance = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3]], dtype=np.float32)
    mask = np.array([[True, False, False], [False, True, True]])
    evidence = explained([importance], [mask])
    # In order of importance: in, out, in, in, out, out.
    for k, expected in ((1, 1), (2, 1 / 2), (3, 2 / 3), (4, 3 / 4), (5, 3 / 5)):
        np.testing.assert_allclose(score(evidence, k), [expected], rtol=0, atol=1e-12)


def test_an_organ_smaller_than_k_cannot_score_one(explained):
    importance = np.array([[4, 3, 2, 1]], dtype=np.float32)
    mask = np.array([[True, False, False, False]])
    np.testing.assert_array_equal(score(explained([importance], [mask]), 2), [0.5])


def test_ties_are_ordered_by_position(explained):
    importance = np.array([[1, 2, 1], [1, 1, 1]], dtype=np.float32)
    first, later = np.zeros((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool)
    first[0, :2] = True
    later[0, 1:] = True
    np.testing.assert_array_equal(score(explained([importance] * 2, [first, later]), 2), [1.0, 0.5])


def test_what_is_undefined(explained):
    good, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), dtype=bool)
    maps = [good, None, good, good, good * np.nan, np.ones_like(good)]
    masks = [mask, mask, None, ~mask, mask, mask]
    np.testing.assert_array_equal(score(explained(maps, masks), 2), [1.0] + [np.nan] * 5)


@pytest.mark.parametrize("k", [6, 7, 1000])
def test_k_has_to_be_smaller_than_the_slice(explained, k):
    good, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), dtype=bool)
    with pytest.raises(DataError, match=rf"top-k-intersection@{k} .* has 6 in all, 2 x 3\.") as failed:
        score(explained([good], [mask]), k)
    assert "--metrics top-k-intersection@1 " in str(failed.value)
    # A slice that is not scored is no obstacle.
    np.testing.assert_array_equal(score(explained([good], [~mask]), k), [np.nan])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_a_slow_implementation(explained, data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
    values = data.draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32)]))
    importance = data.draw(arrays(np.float32, shape, elements=values))
    mask = data.draw(arrays(np.bool_, shape))
    k = data.draw(st.integers(1, mask.size - 1))
    defined = mask.any() and np.ptp(importance.astype(float)) > 0
    expected = slow_intersection(importance, mask, k) if defined else np.nan
    np.testing.assert_allclose(score(explained([importance], [mask]), k), [expected], rtol=0, atol=1e-12)


def test_equals_quantus_where_nothing_is_tied(explained):
    generator = np.random.default_rng(0)
    maps = generator.permuted(np.arange(20 * 12 * 15, dtype=np.float32).reshape(20, -1), axis=1)
    maps = maps.reshape(20, 12, 15)
    masks = generator.random((20, 12, 15)) < 0.3
    quantus = import_quantus("any").TopKIntersection(k=50, abs=False, normalise=False, disable_warnings=True)
    batch = {"x_batch": maps[:, None], "a_batch": maps[:, None], "s_batch": masks[:, None].astype(int)}
    expected = quantus(model=None, y_batch=np.zeros(20), channel_first=True, **batch)
    np.testing.assert_allclose(
        score(explained(list(maps), list(masks)), 50), np.array(expected), rtol=0, atol=1e-12
    )


def test_random_maps_score_the_organs_share(explained):
    generator = np.random.default_rng(1)
    maps = list(generator.random((1000, 6, 5), dtype=np.float32))
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:5, 1:3] = True
    values = score(explained(maps, [mask] * len(maps)), 7)
    assert abs(values.mean() - mask.mean()) < 4 * values.std() / np.sqrt(len(maps))


def test_nothing_is_printed_and_nothing_is_changed(explained, capfd):
    importance = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = importance > 3
    evidence = explained([importance] * 2, [mask] * 2)
    score(evidence, 2)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(evidence, 2)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(importance, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(mask, [[False, False, False], [False, True, True]])


def test_the_name_says_what_is_computed():
    assert TopKIntersection(TopKIntersectionOptions()).name == "top-k-intersection@1000"
    assert TopKIntersection(TopKIntersectionOptions(k=5)).name == "top-k-intersection@5"


def test_k_can_stand_in_the_name_that_is_asked_for():
    names = ("top-k-intersection@500", "top-k-intersection", "pointing-game", "attribution-localisation")
    plan = build(Request(benchmark="phantom", extractors=("hog",), metrics=names, device="cpu"))
    expected = [
        "top-k-intersection@500",
        "top-k-intersection@1000",
        "pointing-game",
        "attribution-localisation",
    ]
    assert [metric.name for metric in plan.metrics] == expected
    assert plan.explains
    # The paper does not say k: one of one's own departs from nothing.
    assert "k" not in [departure.option for departure in plan.departures]
