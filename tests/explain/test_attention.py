from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench.errors import DataError
from cbirbench.explain.attention import (
    HU_CLASSES,
    Share,
    attention,
    attention_summary,
    attention_table,
    tissue_map,
    tissues_of,
)
from cbirbench.slices import CTSlice, Slices

AIR, FAT, SOFT, BONE = "air or lung", "fat", "soft tissue", "bone or contrast"
NAMES = {1: "liver", 2: "tumour", 3: "kidneys"}


def slice_of(hu: Any, mask: Any, name: str = "a", targets: tuple[int, ...] = (1, 2)) -> CTSlice:
    mask = None if mask is None else np.asarray(mask, np.uint8)
    hu = np.asarray(hu, np.int16)
    return CTSlice(hu, mask, name, "p", "s", "v", 0, 1, target_values=targets)


def by_name(shares: list[Share]) -> dict[str, tuple[float, float, float]]:
    return {share.tissue.name: (share.area, share.importance, share.top_tenth) for share in shares}


def slowly(
    importance: np.ndarray, item: CTSlice, names: Mapping[int, str]
) -> dict[str, tuple[Fraction, Fraction, Fraction]]:
    """Area, importance and top tenth by name, pixel by pixel and exactly; absent tissues left out."""
    pixels = []
    for row in range(item.hu.shape[0]):
        for column in range(item.hu.shape[1]):
            hu, label = int(item.hu[row, column]), 0 if item.mask is None else int(item.mask[row, column])
            if label:
                name = names.get(label, f"label {label}")
            elif hu < -190:
                name = AIR
            elif hu < -29:
                name = FAT
            else:
                name = SOFT if hu <= 150 else BONE
            pixels.append((name, Fraction(float(importance[row, column]))))
    lowest = min(value for _, value in pixels)
    whole = sum(value - lowest for _, value in pixels)
    count = (len(pixels) + 9) // 10
    best = sorted(range(len(pixels)), key=lambda i: (-pixels[i][1], i))[:count]
    return {
        name: (
            Fraction(sum(own == name for own, _ in pixels), len(pixels)),
            Fraction(sum((value - lowest for own, value in pixels if own == name), Fraction(0)), whole),
            Fraction(sum(pixels[i][0] == name for i in best), count),
        )
        for name in {own for own, _ in pixels}
    }


def test_each_hu_has_one_class() -> None:
    bounds = {AIR: (-32768, -191), FAT: (-190, -30), SOFT: (-29, 150), BONE: (151, 32767)}
    hu = np.array([[end for ends in bounds.values() for end in ends]])
    item = slice_of(hu, None)
    tissues = tissues_of(Slices((item,)), {})
    assert [tissue.name for tissue in tissues] == [name for name, _ in HU_CLASSES] == list(bounds)
    assert not any(tissue.target for tissue in tissues)
    assert tissue_map(item, tissues).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_labelled_pixels_go_by_their_value_and_the_others_by_hu() -> None:
    item = slice_of([[-1000, -1000, 60, 60, 400, -100]], [[0, 9, 1, 0, 2, 0]])
    tissues = tissues_of(Slices((item,)), NAMES)
    assert [(tissue.name, tissue.value, tissue.target) for tissue in tissues] == [
        *(("liver", 1, True), ("tumour", 2, True), ("label 9", 9, False)),
        *((name, None, False) for name in (AIR, FAT, SOFT, BONE)),
    ]
    assert tissue_map(item, tissues).tolist() == [[3, 2, 0, 5, 1, 4]]


def test_without_target_values_every_label_is_the_target() -> None:
    item = slice_of([[0, 0, 0]], [[0, 1, 9]], targets=())
    tissues = tissues_of(Slices((item,)), NAMES)
    assert [tissue.name for tissue in tissues if tissue.target] == ["liver", "label 9"]


def test_names_are_made_unique() -> None:
    item = slice_of([[0, 0, 0, 0]], [[3, 4, 5, 6]])
    names = {3: "kidney", 4: "kidney", 5: "fat", 6: "spleen"}
    found = [tissue.name for tissue in tissues_of(Slices((item,)), names)]
    assert found[:4] == ["kidney (label 3)", "kidney (label 4)", "fat (label 5)", "spleen"]
    assert len(set(found)) == len(found)


def test_all_255_labels_at_once() -> None:
    mask = np.arange(256).reshape(16, 16)
    item = slice_of(np.full((16, 16), 40), mask)
    tissues = tissues_of(Slices((item,)), {})
    assert len(tissues) == 255 + 4
    expected = np.where(mask > 0, mask - 1, 255 + 2)
    np.testing.assert_array_equal(tissue_map(item, tissues), expected)


def test_shares_by_hand() -> None:
    # Ten pixels of liver and ten of fat, then twenty of air; the importance is 5 on all air.
    hu = np.repeat([[40], [-100], [-1000], [-1000]], 10, axis=1)
    mask = np.repeat([[1], [0], [0], [0]], 10, axis=1)
    importance = np.full((4, 10), 5, np.float32)
    importance[0] = [5, 6, 5, 5, 5, 5, 5, 5, 5, 10]  # liver: mass 6, two of the four highest
    importance[1] = [5, 5, 5, 5, 7, 5, 5, 5, 5, 5]  # fat: mass 2, one of the four highest
    # The fourth is a tie among pixels of 5, of which the liver's first comes first.
    item = slice_of(hu, mask)
    shares = attention(importance, item, tissues_of(Slices((item,)), NAMES))
    assert by_name(shares) == {
        "liver": (0.25, 0.75, 0.75),
        AIR: (0.5, 0.0, 0.0),
        FAT: (0.25, 0.25, 0.25),
        SOFT: (0.0, 0.0, 0.0),
        BONE: (0.0, 0.0, 0.0),
    }


def test_a_tenth_is_rounded_up() -> None:
    item = slice_of(np.zeros((1, 11)), [[1, 1, *[0] * 9]])
    importance = np.arange(11, 0, -1, dtype=np.float32)[None]
    shares = by_name(attention(importance, item, tissues_of(Slices((item,)), NAMES)))
    assert shares["liver"][2] == 1.0
    assert by_name(attention(-importance, item, tissues_of(Slices((item,)), NAMES)))["liver"][2] == 0.0


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf, "constant"])
def test_shares_are_undefined_without_an_order(spoil: Any) -> None:
    importance = np.arange(6, dtype=np.float32).reshape(2, 3)
    if spoil == "constant":
        importance[:] = 0.3
    else:
        importance[1, 1] = spoil
    item = slice_of(np.zeros((2, 3)), [[1, 0, 0], [0, 0, 0]])
    shares = attention(importance, item, tissues_of(Slices((item,)), NAMES))
    assert all(np.isnan(share.importance) and np.isnan(share.top_tenth) for share in shares)
    assert by_name(shares)["liver"][0] == pytest.approx(1 / 6)
    assert sum(share.area for share in shares) == pytest.approx(1)


pictures = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(2, 300))


def picture(rows: int, columns: int, seed: int, levels: int) -> tuple[CTSlice, np.ndarray]:
    draw = np.random.default_rng(seed)
    hu = draw.choice([-1024, -191, -190, -30, -29, 150, 151, 3000], (rows, columns))
    mask = None if seed % 5 == 0 else draw.choice([0, 0, 0, 1, 2, 3, 200], (rows, columns))
    importance = draw.integers(0, levels, (rows, columns)).astype(np.float32) / 128
    return slice_of(hu, mask), importance


@given(pictures)
def test_agrees_with_exact_arithmetic_and_sums_to_one(given: tuple[int, int, int, int]) -> None:
    item, importance = picture(*given)
    shares = by_name(attention(importance, item, tissues_of(Slices((item,)), NAMES)))
    assert sum(area for area, _, _ in shares.values()) == pytest.approx(1)
    if (importance == importance[0, 0]).all():
        return
    expected = slowly(importance, item, NAMES)
    assert expected.keys() <= shares.keys()
    for name, found in shares.items():
        assert found == pytest.approx([float(part) for part in expected.get(name, (0, 0, 0))], abs=1e-12)
    for column in (1, 2):
        assert sum(share[column] for share in shares.values()) == pytest.approx(1)


@given(pictures, st.integers(1, 64), st.integers(-500, 500))
def test_an_offset_and_a_positive_factor_change_nothing(
    given: tuple[int, int, int, int], factor: int, offset: int
) -> None:
    item, importance = picture(*given)
    tissues = tissues_of(Slices((item,)), NAMES)
    moved = (importance * factor + offset).astype(np.float32)  # exact: multiples of 1/128 below 2^16
    np.testing.assert_allclose(
        [(share.importance, share.top_tenth) for share in attention(moved, item, tissues)],
        [(share.importance, share.top_tenth) for share in attention(importance, item, tissues)],
        rtol=1e-12,
    )


@given(pictures)
def test_a_map_of_one_tissue_lies_on_it(given: tuple[int, int, int, int]) -> None:
    item, _ = picture(*given)
    tissues = tissues_of(Slices((item,)), NAMES)
    place = tissue_map(item, tissues)
    for position in np.unique(place):
        share = attention((place == position).astype(np.float32), item, tissues)[position]
        if 0 < share.area < 1:
            assert share.importance == 1
            assert share.top_tenth == pytest.approx(min(1, share.area * place.size / -(-place.size // 10)))


def test_a_map_of_noise_gives_each_tissue_its_area() -> None:
    draw = np.random.default_rng(0)
    item = slice_of(draw.choice([-1000, -100, 40, 500], (200, 200)), draw.choice([0, 1, 3], (200, 200)))
    noise = draw.random((200, 200), dtype=np.float32)
    for share in attention(noise, item, tissues_of(Slices((item,)), NAMES)):
        assert share.importance == pytest.approx(share.area, rel=0.03)
        assert share.top_tenth == pytest.approx(share.area, rel=0.15)


def test_a_map_of_another_shape_is_an_error() -> None:
    item = slice_of(np.zeros((2, 3)), None)
    with pytest.raises(DataError, match=r"'a' of shape \(2, 3\) has a map of shape \(3, 2\)"):
        attention(np.zeros((3, 2), np.float32), item, tissues_of(Slices((item,)), {}))


def test_a_value_that_is_none_of_the_tissues_is_an_error() -> None:
    item = slice_of([[0, 0]], [[1, 7]])
    others = tissues_of(Slices((slice_of([[0]], [[1]]),)), {})
    with pytest.raises(DataError, match="holds the value 7, which is none of the tissues"):
        tissue_map(item, others)


def test_slices_with_other_rules_of_the_target_are_not_mixed() -> None:
    one, two = slice_of([[0]], [[1]], "one"), slice_of([[0]], [[1]], "two", targets=())
    with pytest.raises(DataError, match=r"\[\(\), \(1, 2\)\]"):
        tissues_of(Slices((one, two)), {})


def three_slices() -> tuple[Slices, dict[str, np.ndarray]]:
    """Liver on the left half of `one`, a kidney on that of `two`, nothing labelled in `three`."""
    soft = np.full((2, 10), 50)
    left = np.arange(10) < 5
    slices = Slices(
        (
            slice_of(soft, np.where(left, [[1]], 0) * np.ones((2, 1)), "one"),
            slice_of(soft, np.where(left, [[3]], 0) * np.ones((2, 1)), "two"),
            slice_of(soft, np.full((2, 10), 77), "not explained"),
            slice_of(soft, None, "three"),
        )
    )
    ramp = np.tile(np.arange(10, 0, -1, dtype=np.float32), (2, 1))
    # Mass 9+8+7+6+5 = 35 of 45 on the left half, and both of the two most important pixels.
    return slices, {"three": ramp, "two": ramp, "one": ramp}


def test_the_table_has_a_row_for_every_map_and_tissue() -> None:
    slices, maps = three_slices()
    table = attention_table(slices, maps, NAMES | {8: "never met"})
    names = ["liver", "kidneys", AIR, FAT, SOFT, BONE]
    assert list(table.columns) == ["query_id", "tissue", "target", "area", "importance", "top_tenth"]
    assert table["query_id"].tolist() == [name for name in ("one", "two", "three") for _ in names]
    assert table["tissue"].tolist() == names * 3
    assert table["target"].tolist() == ([True] + [False] * 5) * 3
    assert table.dtypes[["target", "area", "importance", "top_tenth"]].astype(str).tolist() == [
        "bool",
        *["float64"] * 3,
    ]
    cells = table.set_index(["query_id", "tissue"])[["area", "importance", "top_tenth"]]
    assert cells.loc[("one", "liver")].tolist() == pytest.approx([0.5, 35 / 45, 1.0])
    assert cells.loc[("one", SOFT)].tolist() == pytest.approx([0.5, 10 / 45, 0.0])
    assert cells.loc[("two", "liver")].tolist() == [0.0, 0.0, 0.0]
    assert cells.loc[("two", "kidneys")].tolist() == pytest.approx([0.5, 35 / 45, 1.0])
    assert cells.loc[("three", SOFT)].tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(table.groupby("query_id")[["area", "importance", "top_tenth"]].sum(), 1)


def test_the_summary_is_means_over_all_queries_and_ratios_of_them() -> None:
    slices, maps = three_slices()
    summary = attention_summary(attention_table(slices, maps, NAMES))
    assert list(summary.columns) == [
        *("tissue", "target", "queries", "area", "importance", "top_tenth"),
        *("importance_ratio", "top_tenth_ratio"),
    ]
    assert summary["tissue"].tolist() == ["liver", "kidneys", AIR, FAT, SOFT, BONE]
    assert summary["target"].tolist() == [True] + [False] * 5
    assert summary["queries"].tolist() == [3] * 6
    rows = summary.set_index("tissue").drop(columns=["target", "queries"])
    assert rows.loc["liver"].tolist() == pytest.approx([1 / 6, 35 / 135, 1 / 3, 35 / 22.5, 2.0])
    assert rows.loc[SOFT].tolist() == pytest.approx([2 / 3, 65 / 135, 1 / 3, 65 / 90, 0.5])
    assert rows.loc[BONE].fillna(-1).tolist() == [0, 0, 0, -1, -1]


def test_the_summary_leaves_queries_without_shares_out_of_every_mean() -> None:
    slices, maps = three_slices()
    constant = {**maps, "one": np.ones((2, 10), np.float32)}
    rows = attention_summary(attention_table(slices, constant, NAMES)).set_index("tissue")
    assert rows["queries"].tolist() == [2] * 6
    assert rows["area"].tolist() == [0.0, 0.25, 0.0, 0.0, 0.75, 0.0]
    assert rows.loc["kidneys", "importance_ratio"] == pytest.approx(35 / 45 / 0.5)
    alone = attention_summary(attention_table(slices[:1], constant, NAMES))
    assert alone["queries"].tolist() == [0] * 5
    assert alone[["area", "importance", "importance_ratio"]].isna().all(axis=None)


def test_no_maps_are_a_table_too() -> None:
    slices, _ = three_slices()
    table = attention_table(slices, {}, NAMES)
    assert len(table) == 0
    assert isinstance(attention_summary(table), pd.DataFrame) and len(attention_summary(table)) == 0
    assert "importance_ratio" in attention_summary(table)


@settings(max_examples=20)
@given(st.lists(pictures, min_size=1, max_size=4))
def test_the_tables_rows_are_each_slices_own(given: list[tuple[int, int, int, int]]) -> None:
    made = [picture(*numbers) for numbers in given]
    slices = Slices(tuple(slice_of(item.hu, item.mask, f"q{i}") for i, (item, _) in enumerate(made)))
    maps = {f"q{i}": importance for i, (_, importance) in enumerate(made)}
    table = attention_table(slices, maps, NAMES)
    for item in slices:
        own = table[table["query_id"] == item.slice_id].set_index("tissue")
        for share in attention(maps[item.slice_id], item, tissues_of(Slices((item,)), NAMES)):
            row = own.loc[share.tissue.name]
            np.testing.assert_equal(
                [row["area"], row["importance"], row["top_tenth"]],
                [share.area, share.importance, share.top_tenth],
            )
        assert own["area"].sum() == pytest.approx(1)
