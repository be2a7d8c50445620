import numpy as np
import pytest
from scipy.stats import spearmanr

from cbirbench.explain.estimators import estimate
from cbirbench.explain.masks import MaskDesign
from cbirbench.explain.reliability import split_half_reliability


def test_by_hand():
    # Ranks 1 2 3 4 and 2 1 3 4: r = 1 - 6 * 2 / (4 * 15) = .8, and 2 * .8 / 1.8.
    first, second = np.array([[1.0, 2.0], [3.0, 9.0]]), np.array([[0.2, 0.1], [0.3, 0.4]])
    assert split_half_reliability(first, second) == pytest.approx(1.6 / 1.8)


def test_the_order_alone_counts():
    first = np.random.default_rng(0).random((8, 9))
    assert split_half_reliability(first, np.exp(3 * first)) == pytest.approx(1)


def test_equal_values_share_a_rank_as_in_scipy():
    first, second = np.random.default_rng(1).integers(0, 4, size=(2, 10, 10)).astype(float)
    second += first
    agreement = spearmanr(first.ravel(), second.ravel()).statistic
    assert split_half_reliability(first, second) == pytest.approx(2 * agreement / (1 + agreement))


def test_halves_that_disagree_are_unrelated():
    first = np.arange(12.0).reshape(3, 4)
    assert split_half_reliability(first, -first) == 0


@pytest.mark.parametrize("strange", [np.full((2, 2), 3.0), np.array([[1, 2], [3, np.nan]])])
def test_a_map_without_an_order_has_none(strange):
    fine = np.arange(4.0).reshape(2, 2)
    assert np.isnan(split_half_reliability(fine, strange))
    assert np.isnan(split_half_reliability(strange, fine))


def test_it_predicts_the_agreement_of_maps_from_other_masks():
    """What the correction promises: halves of 400 masks foretell how two maps of 400 masks agree."""
    generator = np.random.default_rng(2)
    field = generator.normal(size=(5, 5))
    predicted, agreements, maps = [], [], []
    for seed in range(16):
        design = MaskDesign(grid=5, seed=seed)
        (block,) = design.blocks(400, 400)
        similarities = (block.grids * field).sum(axis=(1, 2)) + 3 * generator.normal(size=400)
        found = estimate(design, similarities, 25, 25, "ratio")
        predicted.append(split_half_reliability(*found.halves))
        maps.append(found.importance.ravel())
    agreements = [spearmanr(one, other).statistic for i, one in enumerate(maps) for other in maps[i + 1 :]]
    assert np.mean(predicted) == pytest.approx(np.mean(agreements), abs=0.04)
    assert 0.5 < np.mean(agreements) < 0.97
