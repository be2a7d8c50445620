import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbirbench.metrics.attribution_localisation import (
    AttributionLocalisation,
    AttributionLocalisationOptions,
)
from cbirbench.metrics.quantus_import import import_quantus

# Quantus adds 1e-9 to a sum that is 1 or more here.
ROUNDING = {"rtol": 0, "atol": 2e-9}


def score(evidence, offset="minimum"):
    return AttributionLocalisation(AttributionLocalisationOptions(offset=offset)).per_query(evidence)


def slow_localisation(importance, mask, offset):
    """Pixel by pixel; NaN where there is no importance."""
    inside = total = 0.0
    zero = min(float(value) for value in importance.flat) if offset == "minimum" else 0.0
    for place in np.ndindex(mask.shape):
        share = max(float(importance[place]) - zero, 0.0)
        total += share
        inside += share if mask[place] else 0.0
    return inside / total if total > 0 else np.nan


def test_by_hand(explained):
    importance = np.array([[3, 1], [1, 1.5]], dtype=np.float32)
    mask = np.array([[True, True], [False, False]])
    # Above the minimum: 2, 0, 0 and .5. As they are: 3, 1, 1 and 1.5.
    np.testing.assert_allclose(score(explained([importance], [mask])), [0.8], **ROUNDING)
    np.testing.assert_allclose(score(explained([importance], [mask]), "none"), [4 / 6.5], **ROUNDING)


def test_without_offset_negative_importance_is_left_out(explained):
    importance = np.array([[2, -1], [1, -3]], dtype=np.float32)
    mask = np.array([[True, True], [False, False]])
    np.testing.assert_allclose(score(explained([importance], [mask]), "none"), [2 / 3], **ROUNDING)
    np.testing.assert_allclose(score(explained([importance], [mask])), [7 / 11], **ROUNDING)
    np.testing.assert_array_equal(score(explained([importance - 2], [mask]), "none"), [np.nan])
    np.testing.assert_allclose(score(explained([importance - 2], [mask])), [7 / 11], **ROUNDING)


def test_an_offset_hides_where_importance_is_unless_it_is_taken_off(explained):
    generator = np.random.default_rng(2)
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:10, 5:13] = True
    perfect = (0.85 + 0.03 * mask + 0.001 * generator.random((20, 20))).astype(np.float32)
    evidence = explained([perfect], [mask])
    assert score(evidence)[0] > 0.85
    assert score(evidence, "none")[0] == pytest.approx(mask.mean(), rel=0.05)


def test_the_scale_of_a_map_does_not_matter(explained):
    generator = np.random.default_rng(3)
    importance, mask = generator.normal(size=(6, 7)), generator.random((6, 7)) < 0.4
    maps = [(importance * scale).astype(np.float32) for scale in (1, 1e-30, 1e30)]
    for offset in ("minimum", "none"):
        values = score(explained(maps, [mask] * 3), offset)
        np.testing.assert_allclose(values, values[0], rtol=1e-5)


def test_a_map_as_wide_as_float32_goes(explained):
    importance = np.array([[3e38, -3e38, 0]], dtype=np.float32)
    mask = np.array([[True, False, False]])
    np.testing.assert_allclose(score(explained([importance], [mask])), [2 / 3], **ROUNDING)


@pytest.mark.parametrize("offset", ["minimum", "none"])
def test_what_is_undefined(explained, offset):
    good, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), dtype=bool)
    with_infinity = good.copy()
    with_infinity[0, 0] = -np.inf
    maps = [good, None, good, good, good * np.nan, with_infinity, np.ones_like(good), np.zeros_like(good)]
    masks = [mask, mask, None, ~mask, mask, mask, mask, mask]
    values = score(explained(maps, masks), offset)
    np.testing.assert_allclose(values, [1.0] + [np.nan] * 7, **ROUNDING)


@settings(deadline=None, max_examples=80)
@given(data=st.data(), offset=st.sampled_from(["minimum", "none"]))
def test_equals_a_slow_implementation(explained, data, offset):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = data.draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32)]))
    importance = data.draw(arrays(np.float32, shape, elements=values))
    mask = data.draw(arrays(np.bool_, shape))
    defined = mask.any() and np.ptp(importance.astype(float)) > 0
    expected = slow_localisation(importance, mask, offset) if defined else np.nan
    np.testing.assert_allclose(score(explained([importance], [mask]), offset), [expected], **ROUNDING)


def test_equals_quantus_on_maps_that_are_positive_already(explained):
    generator = np.random.default_rng(0)
    maps = generator.random((20, 12, 15), dtype=np.float32)
    masks = generator.random((20, 12, 15)) < 0.3
    maps[:, 0, 0] = 0
    quantus = import_quantus("any").AttributionLocalisation(
        positive_attributions=True, normalise=False, disable_warnings=True
    )
    batch = {"x_batch": maps[:, None], "a_batch": maps[:, None], "s_batch": masks[:, None].astype(int)}
    expected = quantus(model=None, y_batch=np.zeros(20), channel_first=True, **batch)
    evidence = explained(list(maps), list(masks))
    for offset in ("minimum", "none"):
        np.testing.assert_allclose(score(evidence, offset), np.array(expected), rtol=1e-5)


def test_random_maps_score_the_organs_share(explained):
    generator = np.random.default_rng(1)
    maps = list(generator.normal(size=(1000, 6, 5)).astype(np.float32))
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:5, 1:3] = True
    for offset in ("minimum", "none"):
        values = score(explained(maps, [mask] * len(maps)), offset)
        assert abs(values.mean() - mask.mean()) < 4 * values.std() / np.sqrt(len(maps))


def test_nothing_is_printed_and_nothing_is_changed(explained, capfd):
    importance = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = importance > 3
    evidence = explained([importance] * 2, [mask] * 2)
    score(evidence)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(evidence)
        score(evidence, "none")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(importance, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(mask, [[False, False, False], [False, True, True]])


def test_it_says_what_it_is():
    metric = AttributionLocalisation(AttributionLocalisationOptions())
    assert (metric.name, metric.options.offset) == ("attribution-localisation", "minimum")
