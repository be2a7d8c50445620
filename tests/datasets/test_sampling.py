from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.datasets.sampling import draw_slices
from cbirbench.errors import DataError


@st.composite
def scans(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    per_kind = draw(st.integers(1, 6))
    with_target = draw(st.integers(per_kind, 40))
    without = draw(st.integers(per_kind, 40))
    shows = np.array([True] * with_target + [False] * without)
    order = draw(st.permutations(range(len(shows))))
    return shows[list(order)], per_kind


@given(scans(), st.integers(0, 2**63), st.text(min_size=1, max_size=12))
def test_draws_so_many_of_each_kind_without_replacement(
    scan: tuple[np.ndarray, int], seed: int, volume_id: str
) -> None:
    shows, per_kind = scan
    drawn = draw_slices(shows, per_kind, seed, volume_id)
    assert drawn.dtype == np.int64
    assert np.all(np.diff(drawn) > 0)
    assert shows[drawn].sum() == per_kind
    assert (~shows[drawn]).sum() == per_kind
    np.testing.assert_array_equal(drawn, draw_slices(shows, per_kind, seed, volume_id))


def test_takes_every_slice_when_just_enough() -> None:
    shows = np.array([False, True, True, False, True, False])
    assert draw_slices(shows, 3, 7, "liver_0").tolist() == [0, 1, 2, 3, 4, 5]


def test_seed_and_volume_each_change_the_draw() -> None:
    shows = np.arange(200) >= 100
    draws = {tuple(draw_slices(shows, 5, seed, name)) for seed in range(5) for name in ("liver_0", "liver_1")}
    assert len(draws) == 10


def test_the_draw_stays_what_it_was() -> None:
    # Results of different versions compare only while a seed draws the same slices.
    assert draw_slices(np.arange(20) >= 8, 2, 0, "liver_0").tolist() == [4, 5, 13, 15]


def test_every_slice_of_a_kind_is_equally_likely() -> None:
    shows = np.arange(12) >= 6
    counts = np.zeros(12)
    for seed in range(600):
        counts[draw_slices(shows, 2, seed, "liver_3")] += 1
    # Each slice is expected 200 times of 600, binomial standard deviation 11.5.
    assert np.abs(counts - 200).max() < 5 * 11.5


@pytest.mark.parametrize(
    ("shows", "kind", "count"),
    [
        ([False] * 9 + [True] * 4, "with the target organ", 4),
        ([True] * 9 + [False] * 3, "without it", 3),
        ([False] * 9, "with the target organ", 0),
    ],
)
def test_too_few_of_a_kind(shows: list[bool], kind: str, count: int) -> None:
    with pytest.raises(DataError, match=rf"liver_7 has {count} slices {kind}, but 5 of each kind") as raised:
        draw_slices(np.array(shows), 5, 0, "liver_7")
    assert "slices_per_kind" in raised.value.remedy
