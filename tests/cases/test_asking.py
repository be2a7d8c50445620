from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cbirbench.cases.asking import Asked, columns, four_digits, map_caption, map_facts, shown_slice
from cbirbench.errors import UsageError
from cbirbench.explain.relax import RelaxOptions
from cbirbench.slices import CTSlice


@pytest.mark.parametrize(("top", "count", "shown"), [(None, 9, 5), (None, 3, 3), (1, 9, 1), (9, 9, 9)])
def test_how_many_are_shown(top: int | None, count: int, shown: int) -> None:
    assert Asked(Path(), top=top).shown(count, "the gallery") == shown


@pytest.mark.parametrize("top", [0, 10, -1])
def test_more_than_there_are_cannot_be_shown(top: int) -> None:
    with pytest.raises(UsageError) as caught:
        Asked(Path(), top=top).shown(9, "the gallery")
    assert f"--top {top} slices cannot be shown: the gallery has 9" in caught.value.problem
    assert "from 1 to 9" in caught.value.remedy


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert columns([["rank", "slice", "of"], ["1", "a_z1", "9.50"], ["10", "bc_z12", "10.25"]]) == [
        "  rank  slice      of",
        "     1  a_z1     9.50",
        "    10  bc_z12  10.25",
    ]


@pytest.mark.parametrize(
    ("distance", "text"), [(21.8, "21.80"), (0.0, "0.000"), (12345.6, "1.235e+04"), (1234.0, "1234")]
)
def test_four_digits(distance: float, text: str) -> None:
    assert four_digits(distance) == text


def test_an_unlabelled_slice_is_neither_right_nor_wrong() -> None:
    item = CTSlice(np.zeros((2, 3), np.int16), None, "query/a_z0001", "a", "a", "a", 1, 0)
    shown = shown_slice(item, "a, slice 1", "", None, None, True)
    assert (shown.label, shown.right, shown.outline, shown.importance, shown.uncertainty) == ("", *[None] * 4)


def test_without_maps_nothing_is_said_of_them() -> None:
    assert map_caption(None) == "" and map_facts(None) is None
    assert "RELAX (regression)" in map_caption(RelaxOptions(estimator="regression"))
