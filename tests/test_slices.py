from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.errors import DataError
from cbirbench.slices import (
    AIR_HU,
    CTSlice,
    Slices,
    batches_of_one_side,
    crop_from_square,
    pad_to_square,
    slice_fingerprint,
    stacked_squares,
)


def ct_slice(shape: tuple[int, int] = (3, 4), name: str = "a", **changed: Any) -> CTSlice:
    hu = np.arange(shape[0] * shape[1], dtype=np.int16).reshape(shape)
    mask = np.zeros(shape, np.uint8)
    mask[0, 0] = 2
    given = CTSlice(hu, mask, name, "patient", "study", "volume", z_index=7, label=1)
    return dataclasses.replace(given, **changed)


def slices_of(*shapes: tuple[int, int]) -> Slices:
    return Slices(tuple(ct_slice(shape, f"s{i}") for i, shape in enumerate(shapes)))


sides = st.integers(1, 40)


@given(sides, sides, st.integers(0, 2**32))
def test_padding_is_undone_by_cropping(rows: int, columns: int, seed: int) -> None:
    hu = np.random.default_rng(seed).integers(-1024, 3000, (rows, columns)).astype(np.int16)
    square = pad_to_square(hu)
    assert square.shape == (max(rows, columns),) * 2
    assert square.dtype == np.int16
    np.testing.assert_array_equal(crop_from_square(square, hu.shape), hu)
    assert np.count_nonzero(square == AIR_HU) == square.size - hu.size + np.count_nonzero(hu == AIR_HU)


def test_padding_is_central_air_with_the_odd_row_below() -> None:
    hu = np.array([[1, 2, 3, 4]], np.int16)
    air = [AIR_HU] * 4
    assert pad_to_square(hu).tolist() == [air, [1, 2, 3, 4], air, air]
    assert pad_to_square(hu.T).T.tolist() == [air, [1, 2, 3, 4], air, air]


def test_a_square_slice_comes_back_as_it_is() -> None:
    hu = np.zeros((5, 5), np.int16)
    assert pad_to_square(hu) is hu


def test_cropping_takes_a_square_of_the_slices_side_only() -> None:
    with pytest.raises(ValueError, match=r"square of side 4, got shape \(3, 3\)"):
        crop_from_square(np.zeros((3, 3)), (2, 4))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=20), st.integers(1, 7))
def test_batches_cover_each_position_once(shapes: Sequence[tuple[int, int]], batch_size: int) -> None:
    slices = slices_of(*shapes)
    seen: list[int] = []
    for positions in batches_of_one_side(slices, batch_size):
        hu = stacked_squares([slices[position] for position in positions])
        assert 1 <= len(positions) <= batch_size
        assert hu.dtype == np.int16
        for position, square in zip(positions, hu, strict=True):
            np.testing.assert_array_equal(square, pad_to_square(slices[position].hu))
        seen += positions
    assert sorted(seen) == list(range(len(slices)))


def test_batches_of_one_side_are_filled() -> None:
    slices = slices_of((4, 4), (2, 2), (3, 4), (2, 1), (4, 1))
    assert list(batches_of_one_side(slices, 2)) == [[0, 2], [4], [1, 3]]


REACHES_A_RESULT = {
    "hu": np.full((3, 4), 5, np.int16),
    "mask": np.ones((3, 4), np.uint8),
    "slice_id": "b",
    "patient_id": "other",
    "volume_id": "other",
    "z_index": 8,
    "label": 0,
    "target_values": (2,),
    "volume_slices": 9,
}


@pytest.mark.parametrize("field", [*REACHES_A_RESULT])
def test_the_fingerprint_changes_with(field: str) -> None:
    given, changed = ct_slice(), ct_slice(**{field: REACHES_A_RESULT[field]})
    assert slice_fingerprint(given) != slice_fingerprint(changed)
    assert Slices((given,)).fingerprint() != Slices((changed,)).fingerprint()


@pytest.mark.parametrize("place", [(0, 0), (2, 3)])
def test_the_fingerprint_changes_with_one_pixel(place: tuple[int, int]) -> None:
    hu, mask = ct_slice().hu.copy(), ct_slice().mask
    assert mask is not None
    hu[place] += 1
    mask = mask.copy()
    mask[place] += 1
    prints = [ct_slice(), ct_slice(hu=hu), ct_slice(mask=mask), ct_slice(mask=None)]
    assert len({slice_fingerprint(item) for item in prints}) == 4


@pytest.mark.parametrize(
    ("z_index", "count", "expected"),
    [(0, 5, 0.0), (1, 5, 0.25), (4, 5, 1.0), (7, None, None), (0, 1, None), (0, 2, 0.0)],
)
def test_where_in_its_scan_a_slice_lies(z_index: int, count: int | None, expected: float | None) -> None:
    assert ct_slice(z_index=z_index, volume_slices=count).relative_z == expected


@pytest.mark.parametrize("z_index", [-1, 5, 6])
def test_a_slice_lies_inside_its_scan(z_index: int) -> None:
    with pytest.raises(DataError, match=f"lies at {z_index} of a scan of 5 slices"):
        ct_slice(z_index=z_index, volume_slices=5)


def test_the_fingerprint_changes_with_nothing_else() -> None:
    given = ct_slice()
    assert given.mask is not None
    rewritten = ct_slice(
        hu=np.asfortranarray(given.hu),
        mask=np.asfortranarray(given.mask),
        study_id="other",
        spacing_mm=(0.7, 0.7),
        z_index=np.int64(7),
        label=np.uint8(1),
    )
    assert slice_fingerprint(rewritten) == slice_fingerprint(given)


def test_the_fingerprint_tells_shapes_and_order_apart() -> None:
    flat, tall = ct_slice((2, 6), mask=None), ct_slice((6, 2), mask=None)
    assert flat.hu.tobytes() == tall.hu.tobytes()
    assert slice_fingerprint(flat) != slice_fingerprint(tall)
    one, two = ct_slice(name="one"), ct_slice(name="two")
    assert Slices((one, two)).fingerprint() != Slices((two, one)).fingerprint()
    assert Slices((one, two)).fingerprint() != Slices((one,)).fingerprint()


@pytest.mark.parametrize(
    "hu",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), np.uint16),
        np.zeros((2, 2, 1), np.int16),
        np.zeros((0, 2), np.int16),
        np.zeros((2, 2), ">i2"),
    ],
    ids=lambda hu: f"{hu.dtype.str}-{hu.shape}",
)
def test_only_int16_planes_are_slices(hu: Any) -> None:
    with pytest.raises(DataError, match="'a' must hold a non-empty 2-D int16") as caught:
        ct_slice(hu=hu, mask=None)
    assert str(hu.shape) in caught.value.problem


@pytest.mark.parametrize("mask", [np.zeros((4, 3), np.uint8), np.zeros((3, 4), bool)])
def test_a_mask_must_fit_its_slice(mask: Any) -> None:
    with pytest.raises(DataError, match=r"mask of slice 'a' must be uint8 of shape \(3, 4\)"):
        ct_slice(mask=mask)


def test_target_values_say_which_pixels_are_the_target() -> None:
    mask = np.array([[0, 1, 2, 3]] * 3, np.uint8)
    mask[1, 0] = 3
    every, some, none = (ct_slice(mask=mask, target_values=values) for values in ((), (1, 3), (4,)))
    assert every.target is not None and some.target is not None and none.target is not None
    assert every.target.tolist() == [[False, *[True] * 3], [True] * 4, [False, *[True] * 3]]
    assert some.target.tolist() == [[value in (1, 3) for value in row] for row in mask.tolist()]
    assert some.target.dtype == bool
    assert [item.shows_target for item in (every, some, none)] == [True, True, False]
    assert [item.mask_fraction for item in (every, some, none)] == [10 / 12, 7 / 12, 0.0]
    unmasked = ct_slice(mask=None, target_values=(1,))
    assert unmasked.target is None and not unmasked.shows_target and np.isnan(unmasked.mask_fraction)


@pytest.mark.parametrize("values", [(0,), (1, 256), (-1,)])
def test_target_values_are_a_masks_and_not_the_background(values: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="target values of slice 'a' must lie in 1 to 255"):
        ct_slice(target_values=values)


def test_the_fingerprint_of_slices_without_target_values_is_as_it_was() -> None:
    # What is cached, and what results were recorded with, is found by it.
    recorded = "f5b64262e49c9a71fa20bbbf450f36d81fe1d50e16725ab97db9f023549151f7"
    assert slice_fingerprint(ct_slice()) == recorded
    assert slice_fingerprint(ct_slice(target_values=(np.uint8(2),))) == slice_fingerprint(
        ct_slice(target_values=(2,))
    )


def test_the_share_of_the_organ_counts_every_value() -> None:
    mask = np.array([[0, 1, 2, 0]] * 3, np.uint8)
    assert ct_slice(mask=mask).mask_fraction == 0.5
    assert np.isnan(ct_slice(mask=None).mask_fraction)


def test_ids_are_unique() -> None:
    with pytest.raises(DataError, match="share the id 'a'"):
        Slices((ct_slice(), ct_slice(hu=np.zeros((3, 4), np.int16))))


def test_is_a_sequence() -> None:
    slices = slices_of((2, 2), (3, 3), (4, 4))
    assert len(slices) == 3
    assert slices[1] is slices.items[1]
    assert isinstance(slices[1:], Slices)
    assert slices[1:].ids == ["s1", "s2"] == [item.slice_id for item in slices][1:]
    assert slices[-1] in slices


def test_labels_and_table_hold_one_row_a_slice() -> None:
    slices = Slices((ct_slice(name="x", label=0, mask=None), ct_slice(name="y", spacing_mm=(0.5, 0.75))))
    assert slices.labels.tolist() == [0, 1]
    assert slices.labels.dtype == np.int64
    table = slices.table()
    assert table["slice_id"].tolist() == ["x", "y"]
    assert table["label"].tolist() == [0, 1]
    assert np.isnan(table["mask_fraction"][0])
    assert table["mask_fraction"][1] == pytest.approx(1 / 12)
    last = table.iloc[1]
    assert (last.patient_id, last.study_id, last.volume_id, last.z_index) == ("patient", "study", "volume", 7)
    assert (last.row_spacing_mm, last.column_spacing_mm) == (0.5, 0.75)


def test_no_slices_are_a_table_too() -> None:
    assert len(Slices(()).table()) == 0
    assert Slices(()).labels.shape == (0,)
