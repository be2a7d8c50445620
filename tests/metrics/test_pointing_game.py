import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cbirbench.metrics.pointing_game import PointingGame, PointingGameOptions
from cbirbench.metrics.quantus_import import import_quantus


def score(evidence):
    return PointingGame(PointingGameOptions()).per_query(evidence)


def slow_pointing_game(importance, mask):
    """Walk over the pixels and remember the highest."""
    best, hit = -np.inf, False
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            if importance[row, column] > best:
                best, hit = importance[row, column], mask[row, column]
    return float(hit)


def test_by_hand(explained):
    importance = np.array([[0.2, 0.1, 0.8], [0.9, 0.7, 0.3]], dtype=np.float32)
    hit = np.array([[False, False, False], [True, False, False]])
    np.testing.assert_array_equal(score(explained([importance] * 2, [hit, ~hit])), [1.0, 0.0])
    # The sign counts: of negative maps too the highest pixel, not the largest.
    np.testing.assert_array_equal(score(explained([importance - 1, -importance], [hit, hit])), [1.0, 0.0])


def test_of_equal_pixels_the_first_counts(explained):
    importance = np.array([[0, 1, 0], [1, 0, 1]], dtype=np.float32)
    first = np.array([[False, True, False], [False, False, False]])
    np.testing.assert_array_equal(score(explained([importance] * 2, [first, ~first])), [1.0, 0.0])


def test_what_is_undefined(explained):
    good, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), dtype=bool)
    # Of an empty mask Quantus makes a hit: its NaN goes into an array of booleans.
    maps = [good, None, good, good, good * np.nan, np.ones_like(good)]
    masks = [mask, mask, None, ~mask, mask, mask]
    np.testing.assert_array_equal(score(explained(maps, masks)), [1.0] + [np.nan] * 5)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_a_slow_implementation(explained, data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = data.draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, width=32)]))
    importance = data.draw(arrays(np.float32, shape, elements=values))
    mask = data.draw(arrays(np.bool_, shape))
    defined = mask.any() and np.ptp(importance.astype(float)) > 0
    expected = slow_pointing_game(importance, mask) if defined else np.nan
    np.testing.assert_array_equal(score(explained([importance], [mask])), [expected])


def test_equals_quantus_where_nothing_is_tied(explained):
    generator = np.random.default_rng(0)
    maps = generator.permuted(np.arange(20 * 12 * 15, dtype=np.float32).reshape(20, -1), axis=1)
    maps = maps.reshape(20, 12, 15)
    masks = generator.random((20, 12, 15)) < 0.5
    quantus = import_quantus("any").PointingGame(abs=False, normalise=False, disable_warnings=True)
    batch = {"x_batch": maps[:, None], "a_batch": maps[:, None], "s_batch": masks[:, None].astype(int)}
    expected = quantus(model=None, y_batch=np.zeros(20), channel_first=True, **batch)
    assert 0 < np.mean(expected) < 1
    np.testing.assert_array_equal(score(explained(list(maps), list(masks))), np.array(expected, dtype=float))


def test_random_maps_hit_as_often_as_the_organs_share(explained):
    generator = np.random.default_rng(1)
    maps = list(generator.random((2000, 6, 5), dtype=np.float32))
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:5, 1:3] = True
    mean = score(explained(maps, [mask] * len(maps))).mean()
    share = mask.mean()
    assert abs(mean - share) < 4 * np.sqrt(share * (1 - share) / len(maps))


def test_nothing_is_printed_and_nothing_is_changed(explained, capfd):
    importance = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = importance > 3
    evidence = explained([importance] * 2, [mask] * 2)
    score(evidence)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(evidence)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(importance, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(mask, [[False, False, False], [False, True, True]])


def test_name():
    assert PointingGame(PointingGameOptions()).name == "pointing-game"
