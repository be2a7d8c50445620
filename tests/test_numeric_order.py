from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cbirbench.numeric_order import numeric_order


def test_numbers_are_ordered_as_numbers() -> None:
    names = ["liver_10", "liver_2", "liver_1", "a/2/x", "a/10/x", "liver", "10", "9"]
    expected = ["9", "10", "a/2/x", "a/10/x", "liver", "liver_1", "liver_2", "liver_10"]
    assert sorted(names, key=numeric_order) == expected


def test_digits_of_other_scripts_are_text() -> None:
    names = ["٣", "p2", "p10", "²", "p٣"]  # the Arabic three is a decimal, the superscript two is not
    assert sorted(names, key=numeric_order) == ["p2", "p10", "p٣", "²", "٣"]


@given(st.lists(st.text(st.sampled_from("a-019٣৪²Ⅷ"), max_size=8)))
def test_any_names_have_one_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=numeric_order) == sorted(backwards, key=numeric_order)
