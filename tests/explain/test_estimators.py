import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge

from cbirbench.explain.estimators import PENALTIES, estimate, keep_certain, ridge
from cbirbench.explain.masks import MaskDesign


def masks_of(design, count, height, width):
    (block,) = design.blocks(count, count)
    return block.render(height, width)[:, 0].double().numpy()


def similarities_of(masks, seed=0):
    """Similarities that depend on masks with effects of single pixels, of pairs, and noise."""
    generator = np.random.default_rng(seed)
    field = generator.normal(size=masks.shape[1:]) / masks[0].size
    linear = (masks * field).sum(axis=(1, 2))
    return 0.5 + linear + linear**2 + 0.01 * generator.normal(size=len(masks))


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(8, 60),
    antithetic=st.booleans(),
    shifts=st.sampled_from(["pixels", "cells"]),
    estimator=st.sampled_from(["ratio", "mean"]),
    seed=st.integers(0, 10**4),
)
def test_importance_and_uncertainty_equal_their_definitions(count, antithetic, shifts, estimator, seed):
    design = MaskDesign(grid=3, seed=seed, antithetic=antithetic, shifts=shifts)
    masks = masks_of(design, count, 11, 8)
    similarities = similarities_of(masks, seed)
    found = estimate(design, similarities, 11, 8, estimator)

    def slow(members):
        total = np.einsum("n,nhw->hw", similarities[members], masks[members])
        return total / (masks[members].sum(axis=0) if estimator == "ratio" else members.sum())

    half = design.halves(np.arange(count))
    everything = np.ones(count, dtype=bool)
    with np.errstate(invalid="ignore"):
        importance = slow(everything)
        ratio = np.einsum("n,nhw->hw", similarities, masks) / masks.sum(axis=0)
        spread = ((similarities[:, None, None] - ratio) ** 2 * masks).sum(axis=0) / masks.sum(axis=0)
        halves = [slow(half == 0), slow(half == 1)]
    seen = masks.sum(axis=0) > 1e-6
    np.testing.assert_allclose(found.importance[seen], importance[seen], atol=1e-6)
    np.testing.assert_allclose(found.uncertainty[seen], spread[seen], atol=1e-6)
    for own, other, number in zip(found.halves, halves, (0, 1), strict=True):
        seen = masks[half == number].sum(axis=0) > 1e-6
        np.testing.assert_allclose(own[seen], other[seen], atol=1e-5)


def test_a_pixel_that_no_mask_shows_is_nan_in_the_ratio_and_zero_in_the_mean():
    design = MaskDesign()
    hidden = masks_of(design, 1, 28, 28)[0] == 0
    assert 0 < hidden.sum() < hidden.size
    np.testing.assert_array_equal(np.isnan(estimate(design, np.ones(1), 28, 28, "ratio").importance), hidden)
    np.testing.assert_array_equal(estimate(design, np.ones(1), 28, 28, "mean").importance == 0, hidden)


@pytest.mark.parametrize("estimator", ["ratio", "mean", "regression"])
def test_a_half_without_masks_has_no_map(estimator):
    halves = estimate(MaskDesign(grid=2), np.array([0.3]), 6, 6, estimator).halves
    assert np.isnan(halves[1]).all()


@pytest.mark.parametrize(("keep", "shifts"), [(0.5, "pixels"), (0.5, "cells"), (0.3, "pixels")])
def test_with_many_masks_regression_comes_to_the_ratio(keep, shifts):
    design = MaskDesign(grid=4, keep=keep, shifts=shifts)
    similarities = similarities_of(masks_of(design, 40_000, 12, 10))
    ratio, regression = (estimate(design, similarities, 12, 10, name) for name in ("ratio", "regression"))
    np.testing.assert_allclose(regression.importance, ratio.importance, atol=0.05 * np.ptp(ratio.importance))


def test_with_few_masks_regression_is_nearer_to_the_limit():
    # Where shifts are small beside cells and parts, as in the protocol.
    generator = np.random.default_rng(3)
    parts = np.kron(generator.normal(size=(3, 3)), np.ones((16, 16))) / 48**2

    def importance(seed, count, estimator):
        design = MaskDesign(grid=4, seed=seed)
        shown = (masks_of(design, count, 48, 48) * parts).sum(axis=(1, 2))
        similarities = 0.8 + shown + shown**2 + 0.02 * generator.normal(size=count)
        return estimate(design, similarities, 48, 48, estimator).importance

    limit = importance(99, 10_000, "ratio")
    errors = {  # a common offset says nothing about the order of pixels
        name: np.mean([(importance(seed, 300, name) - limit).std() for seed in range(10)])
        for name in ("ratio", "regression")
    }
    assert errors["regression"] < 0.7 * errors["ratio"]


def test_main_effects_alone_are_found_exactly():
    # Without noise and interactions of cells, regression is at its limit with hardly more masks than cells.
    design = MaskDesign(grid=3)
    effects = np.linspace(-0.02, 0.02, 9).reshape(3, 3)
    (block,) = design.blocks(60_000, 60_000)
    similarities = 0.7 + (block.grids * effects).sum(axis=(1, 2))
    limit = estimate(design, similarities, 9, 9, "ratio").importance
    few = estimate(design, similarities[:60], 9, 9, "regression").importance
    np.testing.assert_allclose(few, limit, atol=3e-4)


def slow_cross_validation(features, values, penalty):
    """Generalised cross-validation by the whole hat matrix."""
    count = len(values)
    with_level = np.column_stack([np.ones(count), features - features.mean(axis=0)])
    weights = np.diag([0.0, *[penalty] * features.shape[1]])
    hat = with_level @ np.linalg.solve(with_level.T @ with_level + weights, with_level.T)
    left = values - hat @ values
    return (left @ left) / (1 - np.trace(hat) / count) ** 2


@settings(deadline=None, max_examples=40)
@given(count=st.integers(12, 80), noise=st.sampled_from([0.0, 0.1, 2.0]), seed=st.integers(0, 10**4))
def test_ridge_is_that_of_scikit_learn_at_the_penalty_of_least_cross_validation(count, noise, seed):
    generator = np.random.default_rng(seed)
    features = (generator.random((count, 5)) < 0.5) - 0.5
    values = 3 + features @ generator.normal(size=5) + noise * generator.normal(size=count)
    level, coefficients = ridge(features, values)
    spread = features - features.mean(axis=0)
    penalties = PENALTIES * np.linalg.eigvalsh(spread.T @ spread).mean()
    if np.linalg.eigvalsh(spread.T @ spread).min() < 1e-6:
        return
    best = min(penalties, key=lambda penalty: slow_cross_validation(features, values, penalty))
    other = Ridge(alpha=best).fit(features, values)
    np.testing.assert_allclose(coefficients, other.coef_, atol=1e-8)
    assert level == pytest.approx(other.intercept_, abs=1e-8)


def test_ridge_with_fewer_values_than_features_and_with_one():
    features = (np.random.default_rng(0).random((6, 20)) < 0.5) - 0.5
    level, coefficients = ridge(features, np.arange(6.0))
    assert np.isfinite(level) and np.isfinite(coefficients).all() and coefficients.shape == (20,)
    level, coefficients = ridge(features[:1], np.array([4.0]))
    assert level == 4 and not coefficients.any()


def test_ridge_of_a_clear_case_is_least_squares():
    features = (np.random.default_rng(1).random((500, 6)) < 0.5) - 0.5
    values = features @ np.arange(6.0) + 2
    level, coefficients = ridge(features, values)
    plain = LinearRegression().fit(features, values)
    np.testing.assert_allclose(coefficients, plain.coef_, atol=0.01)
    assert level == pytest.approx(2, abs=0.01)


def test_u_relax_keeps_what_is_at_most_the_threshold():
    importance = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    uncertainty = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 20.0]])
    np.testing.assert_array_equal(  # the median is 2.5, the mean 5
        keep_certain(importance, uncertainty, "median"), [[1, 2, np.nan], [0, 0, 0]]
    )
    np.testing.assert_array_equal(keep_certain(importance, uncertainty, "mean"), [[1, 2, np.nan], [4, 5, 0]])
