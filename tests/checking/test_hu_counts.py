from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cbirbench.checking.hu_counts import HUCounts

VALUES = hnp.arrays(np.int16, st.integers(1, 60), elements=st.integers(-32768, 32767))


def counted(*parts: np.ndarray) -> HUCounts:
    counts = HUCounts()
    for part in parts:
        counts.add(part)
    return counts


@given(values=VALUES, q=st.integers(1, 99), cut=st.integers(0, 60))
def test_percentiles_and_ends_are_numpys_whatever_the_parts(values: np.ndarray, q: int, cut: int) -> None:
    counts = counted(values[:cut], values[cut:])
    assert counts.total == len(values)
    assert (counts.lowest, counts.highest) == (values.min(), values.max())
    # By hand: the smallest value with at least q percent at or below it.
    expected = min(v for v in values if 100 * int((values <= v).sum()) >= q * len(values))
    assert counts.percentile(q) == expected


@given(values=VALUES, width=st.integers(1, 500))
def test_bins_hold_every_value_once(values: np.ndarray, width: int) -> None:
    counts = counted(values)
    low, bins = counts.trimmed(width)
    assert low % width == 0 and bins[0] > 0 and bins[-1] > 0
    for place, count in enumerate(bins[:50]):
        start = low + place * width
        assert count == sum(start <= int(v) < start + width for v in values)
    assert sum(bins) == len(values)


def test_nothing_counted_gives_no_bins() -> None:
    assert counted(np.empty((0, 3), np.int16)).trimmed(10) == (0, [])


def test_padding_is_a_value_below_air_that_fills_much() -> None:
    hu = np.full(200, 40, np.int16)
    hu[:2] = -2048
    counts = counted(hu)
    assert counts.padding() == (-2048, 0.01)
    assert counts.without(-2048).lowest == 40
    assert counts.lowest == -2048  # the counts themselves are left as they are
    hu[0] = 40
    assert counted(hu).padding() == (None, 0.0)  # noise
    hu[:20] = -1024
    assert counted(hu[1:]).padding() == (None, 0.0)  # air


@pytest.mark.parametrize(("below", "share"), [(-300, 0.25), (-299, 0.5), (5000, 1.0)])
def test_share_below(below: int, share: float) -> None:
    assert counted(np.array([-1000, -300, 0, 60], np.int16)).share_below(below) == share
