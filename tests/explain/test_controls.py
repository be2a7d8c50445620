import numpy as np
import pytest

from cbirbench.explain.controls import CONTROLS, SIDE, control_map
from cbirbench.explain.relax import RelaxOptions

RELAX = RelaxOptions(masks=200)


def relevance_rank(importance, mask):
    top = np.argsort(-importance.ravel())[: mask.sum()]
    return mask.ravel()[top].mean()


def test_the_center_map_falls_with_the_distance_from_the_middle():
    found = control_map("center-map", "any", RELAX)
    assert found.shape == (SIDE, SIDE) and found.dtype == np.float32
    middle = SIDE // 2
    assert found.max() == found[middle, middle] == found[middle - 1, middle - 1]
    assert (np.diff(found[middle, middle:]) < 0).all()
    np.testing.assert_array_equal(found, found[::-1, ::-1])
    np.testing.assert_array_equal(found, found.T)


def test_random_maps_are_their_slices_own_and_come_again():
    one = control_map("random-map", "a", RELAX)
    assert one.shape == (SIDE, SIDE) and np.isfinite(one).all()
    np.testing.assert_array_equal(control_map("random-map", "a", RELAX), one)
    assert abs(np.corrcoef(one.ravel(), control_map("random-map", "b", RELAX).ravel())[0, 1]) < 0.9
    assert not np.array_equal(control_map("random-map", "a", RelaxOptions(masks=200, seed=1)), one)


@pytest.mark.parametrize("estimator", ["ratio", "regression"])
def test_random_maps_score_the_organs_share_of_the_slice(estimator):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[60:140, 30:110] = True
    relax = RelaxOptions(masks=120, estimator=estimator)
    scores = [relevance_rank(control_map("random-map", str(n), relax), mask) for n in range(120)]
    assert np.mean(scores) == pytest.approx(mask.mean(), abs=4 * np.std(scores) / np.sqrt(120))


def test_another_name_is_no_control():
    assert CONTROLS == ("random-map", "center-map")
    with pytest.raises(ValueError, match="other"):
        control_map("other", "a", RELAX)
