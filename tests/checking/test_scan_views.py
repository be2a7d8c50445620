from __future__ import annotations

import numpy as np
import pytest

from cbirbench.checking.scan_views import centre, scan_views


def test_planes_through_the_organ_as_a_radiologist_sees_them() -> None:
    hu = np.arange(9 * 4 * 5, dtype=np.int16).reshape(9, 4, 5)
    target = np.zeros(hu.shape, bool)
    target[2:7, 1:4, 0:2] = True  # slices 2 to 6, its middle row is 2
    views = scan_views(hu, target, (3.0, 1.0, 0.5), (0, 4))
    assert [(view.plane, view.index) for view in views] == [
        ("axial", 3),
        ("axial", 4),
        ("axial", 5),
        ("coronal", 2),
        ("sagittal", 4),
    ]
    assert [view.aspect for view in views] == [2.0, 2.0, 2.0, 6.0, 3.0]
    np.testing.assert_array_equal(views[0].hu, hu[3])
    # Head at the top; columns from the patient's right, rows from the front.
    assert views[3].hu[0, 0] == hu[8, 2, 0] and views[3].hu[-1, -1] == hu[0, 2, 4]
    assert views[4].hu[0, 0] == hu[8, 0, 4] and views[4].hu[-1, -1] == hu[0, 3, 4]
    for view, cut in zip(views[3:], (target[::-1, 2], target[::-1, :, 4]), strict=True):
        np.testing.assert_array_equal(view.outline, cut)
    assert not any(np.shares_memory(view.hu, hu) for view in views)  # else each row would keep its volume


@pytest.mark.parametrize(
    ("slices", "places"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [1, 2, 3]), (101, [25, 50, 75])]
)
@pytest.mark.parametrize("masked", [False, True])
def test_without_organ_they_lie_in_the_middle(slices: int, places: list[int], masked: bool) -> None:
    hu = np.zeros((slices, 4, 4), np.int16)
    views = scan_views(hu, np.zeros(hu.shape, bool) if masked else None, (1.0, 1.0, 1.0), (1, 2))
    assert [view.index for view in views if view.plane == "axial"] == places
    assert [view.index for view in views[-2:]] == [1, 2]
    assert all((view.outline is not None) == masked for view in views)


@pytest.mark.parametrize(
    ("counts", "middle"), [([0, 0, 0, 0], 2), ([5, 0, 0], 0), ([1, 1, 1], 1), ([1, 0, 0, 9], 3)]
)
def test_centre(counts: list[int], middle: int) -> None:
    assert centre(np.array(counts)) == middle
