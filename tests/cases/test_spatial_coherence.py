from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.cases.spatial_coherence import neighbours, parse_reach, smoothed_distances
from cbirbench.errors import UsageError


def test_a_case_worked_by_hand() -> None:
    """Both studies 10 mm apart, reach 10 mm: neighbours weigh exp(-2), and ends are left out."""
    distances = np.array([[1.0, 4.0, 2.0], [3.0, 1.0, 5.0], [2.0, 6.0, 0.0]])  # below, query, above
    w = math.exp(-2)
    expected = [
        (3 + w * 6) / (1 + w),  # the first slice has nothing below it
        (1 + w * 1 + w * 0) / (1 + 2 * w),
        (5 + w * 4) / (1 + w),
    ]
    found = smoothed_distances(distances, np.array([-10.0, 0.0, 10.0]), 10.0, 10.0)
    np.testing.assert_allclose(found, expected)


def test_between_slices_distances_are_interpolated() -> None:
    """The previous study's slices are 8 mm apart, the neighbour lies 2 mm above: a quarter of the way."""
    distances = np.array([[1.0, 1.0, 1.0], [0.0, 4.0, 8.0]])
    w = math.exp(-2 * (2 / 4) ** 2)
    found = smoothed_distances(distances, np.array([0.0, 2.0]), 8.0, 4.0)
    np.testing.assert_allclose(found, [(1 + w * 1) / (1 + w), (1 + w * 5) / (1 + w), 1.0])


def test_coherence_decides_between_slices_that_look_alike() -> None:
    """Slices 1 and 4 are equally near the query, but only 4 has neighbours like the query's."""
    query = [9.0, 1.0, 9.0, 9.0, 1.0, 9.0]
    below, above = [9.0, 9.0, 9.0, 2.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0, 2.0]
    found = smoothed_distances(np.array([below, query, above]), np.array([-3.0, 0.0, 3.0]), 3.0, 6.0)
    assert found.argmin() == 4


def slowly(distances: list[list[float]], offsets: list[float], spacing: float, reach: float) -> list[float]:
    """The formula once more, with plain loops."""
    count = len(distances[0])
    found = []
    for candidate in range(count):
        total = weights = 0.0
        for row, offset in zip(distances, offsets, strict=True):
            place = candidate + offset / spacing
            if place < -1e-7 or place > count - 1 + 1e-7:
                continue
            place = min(max(place, 0.0), count - 1.0)
            lower = min(int(place), count - 1)
            upper = min(lower + 1, count - 1)
            there = row[lower] + (place - lower) * (row[upper] - row[lower])
            weight = math.exp(-(offset**2) / (2 * (reach / 2) ** 2))
            total += weight * there
            weights += weight
        found.append(total / weights)
    return found


@given(st.data())
def test_agrees_with_plain_loops(data: st.DataObject) -> None:
    count, above, below = (data.draw(st.integers(low, 6)) for low in (1, 0, 0))
    step, spacing, reach = (data.draw(st.sampled_from([0.7, 1.0, 2.5, 5.0, 8.0])) for _ in range(3))
    offsets = [k * step for k in range(-below, above + 1)]
    value = st.floats(0, 100)
    distances = [data.draw(st.lists(value, min_size=count, max_size=count)) for _ in offsets]
    found = smoothed_distances(np.array(distances), np.array(offsets), spacing, reach)
    np.testing.assert_allclose(found, slowly(distances, offsets, spacing, reach), atol=1e-5)
    assert (found >= np.min(distances) - 1e-9).all() and (found <= np.max(distances) + 1e-9).all()


def test_without_neighbours_nothing_changes() -> None:
    distances = np.array([[3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(smoothed_distances(distances, np.zeros(1), 5.0, 20.0), distances[0])


def test_a_previous_study_of_one_slice() -> None:
    found = smoothed_distances(np.array([[9.0], [3.0], [9.0]]), np.array([-1.0, 0.0, 1.0]), 5.0, 20.0)
    np.testing.assert_array_equal(found, [3.0])


@pytest.mark.parametrize(
    ("number", "spacing", "reach", "found"),
    [
        (5, 5.0, 10.0, [3, 4, 5, 6, 7]),
        (5, 5.0, 9.9, [4, 5, 6]),
        (0, 5.0, 10.0, [0, 1, 2]),
        (9, 5.0, 10.0, [7, 8, 9]),
        (5, 16.0, 10.0, [5]),
        (5, 0.1, 0.3, [2, 3, 4, 5, 6, 7, 8]),  # 0.3 / 0.1 is 2.9999999999999996
        (5, 1.0, 1e4, list(range(10))),
    ],
)
def test_neighbours_within_reach(number: int, spacing: float, reach: float, found: list[int]) -> None:
    assert neighbours(number, 10, spacing, reach) == found


@pytest.mark.parametrize(
    ("text", "mm", "said"),
    [
        ("20mm", 20.0, "20 mm"),
        (" 7.5 MM", 7.5, "7.5 mm"),
        ("2", 5.0, "2 slices"),
        ("1", 2.5, "1 slice"),
    ],
)
def test_a_reach_is_millimetres_or_slices(text: str, mm: float, said: str) -> None:
    reach = parse_reach(text)
    assert reach.mm(2.5) == mm and str(reach) == said


@pytest.mark.parametrize("text", ["", "0", "0mm", "-3mm", "1.5", "far", "20cm", "nan", "inf mm", "99999999"])
def test_any_other_reach_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reach(text)
    assert repr(text) in caught.value.problem and "20mm" in caught.value.remedy
