from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, PositiveInt, conint, create_model
from pydantic.fields import FieldInfo

from cbirbench import registry
from cbirbench.explain.relax import RelaxOptions
from cbirbench.option_tables import OptionRow, option_row, option_rows, typed
from cbirbench.options import Options, option
from cbirbench.settings import RunOptions, parse_value
from cbirbench.windows import NarrowHUWindow, WideHUWindow


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class ScannerModel:
    """A class that nobody here knows."""


def row_of(annotation: Any, default: Any, **bounds: Any) -> OptionRow:
    made = create_model(
        "Made",
        __base__=Options,
        __config__=None,
        value=(annotation, option(default, description="What it sets.", **bounds)),
    )
    (row,) = option_rows(made)
    return row


class Everything(Options):
    epochs: int = option(
        250,
        description="Passes over the gallery.",
        unit="epochs",
        source="section 8",
        profiles={"released-code": 2000},
        ge=1,
    )
    window: WideHUWindow = option((-200.0, 300.0), description="Window.", unit="HU")
    devices: int = option(1, description="GPUs.", protocol=False, ge=1)
    log_every: int | None = option(None, description="Lines of a log.", result=False)
    given: str


def test_a_row_holds_all_that_was_declared() -> None:
    rows = option_rows(Everything)
    assert rows[0] == OptionRow(
        name="epochs",
        kind="whole number, 1 or more",
        default="250",
        unit="epochs",
        source="section 8",
        profiles={"released-code": "2000"},
        description="Passes over the gallery.",
        shapes_results=True,
        protocol=True,
    )
    assert rows[0].takes == "whole number, 1 or more (epochs; default 250; released-code: 2000)"
    assert [row.name for row in rows] == ["epochs", "window", "devices", "log_every", "given"]
    assert [(row.shapes_results, row.protocol) for row in rows[1:4]] == [
        (True, True),
        (True, False),
        (False, False),
    ]
    assert rows[3].default == "none"


def test_a_unit_that_the_kind_names_is_not_said_twice() -> None:
    row = option_rows(Everything)[1]
    assert row.unit == "HU"
    assert row.takes == "LOW,HIGH in HU, or an organ's name (default -200,300)"


def test_an_option_without_a_default_must_be_given() -> None:
    row = option_rows(Everything)[-1]
    assert (row.required, row.default, row.description, row.unit) == (True, "", "", "")
    assert row.takes == "text (it must be given)"


IN_A_BYTE = "whole numbers in 1..255, separated by commas, or none"

KINDS: list[tuple[Any, Any, dict[str, Any], str]] = [
    (int, 1, {}, "whole number"),
    (int, 1, {"ge": 1}, "whole number, 1 or more"),
    (int, 3, {"gt": 2}, "whole number above 2"),
    (int, 3, {"le": 8}, "whole number, 8 or less"),
    (int, 8, {"ge": 8, "le": 64, "multiple_of": 8}, "whole number in 8..64, a multiple of 8"),
    (PositiveInt, 1, {}, "whole number above 0"),
    (conint(ge=2, lt=9), 2, {}, "whole number, 2 or more and below 9"),
    (float, 0.5, {}, "number"),
    (float, 0.5, {"ge": 0, "le": 1}, "number in 0..1"),
    (float, 0.5, {"gt": 0, "lt": 1}, "number above 0 and below 1"),
    (float, 0.5, {"ge": 0, "lt": 1}, "number, 0 or more and below 1"),
    (float, 0.5, {"ge": -0.5}, "number, -0.5 or more"),
    (float | None, None, {"gt": 0}, "number above 0, or none"),
    (Optional[int], None, {"ge": 1, "le": 9}, "whole number in 1..9, or none"),  # noqa: UP045
    (Annotated[int, Field(ge=1)] | None, None, {}, "whole number, 1 or more, or none"),
    (None | int | str, 1, {}, "whole number or text, or none"),
    (int | Literal["auto"], "auto", {}, "whole number or only auto"),
    (bool, True, {}, "true or false"),
    (str, "", {}, "text"),
    (str, "a", {"min_length": 1}, "text, not empty"),
    (str, "abc", {"min_length": 3}, "text, 3 characters or more"),
    (str, "ab", {"min_length": 1, "max_length": 60}, "text, 1 to 60 characters"),
    (str, "", {"max_length": 60}, "text, 0 to 60 characters"),
    (str, "ab", {"min_length": 2, "max_length": 2}, "text, 2 characters"),
    (str, "ab", {"pattern": "^a"}, "text that matches ^a"),
    (Path, Path("a"), {}, "path"),
    (Path | None, None, {}, "path, or none"),
    (Literal["euclidean", "cosine"], "cosine", {}, "one of euclidean, cosine"),
    (Literal["one"], "one", {}, "only one"),
    (Literal[1, 2, True], 1, {}, "one of 1, 2, true"),
    (Literal["a", "b"] | None, None, {}, "one of a, b, or none"),
    (Colour, Colour.RED, {}, "one of red, blue"),
    (tuple[float, float], (0.0, 1.0), {}, "2 numbers, separated by a comma"),
    (tuple[int, int, int], (0, 1, 2), {}, "3 whole numbers, separated by commas"),
    (tuple[int, str], (0, "a"), {}, "whole number; then a comma and text"),
    (tuple[int], (0,), {}, "whole number"),
    (tuple[int, ...], (), {}, "whole numbers, separated by commas, or none"),
    (tuple[Annotated[int, Field(ge=1, le=255)], ...], (), {}, IN_A_BYTE),
    (list[float], [], {"min_length": 1}, "numbers, separated by commas, not empty"),
    (list[str], [], {"min_length": 2}, "texts, separated by commas, 2 values or more"),
    (list[Path], [], {}, "paths, separated by commas, or none"),
    (set[Literal["a", "b"]], set(), {}, "values, each one of a, b, separated by commas, or none"),
    (list, [], {}, "values, separated by commas, or none"),
    (Annotated[tuple[float, float], AfterValidator(tuple)], (0, 1), {}, "2 numbers, separated by a comma"),
    (WideHUWindow, (0.0, 1.0), {}, "LOW,HIGH in HU, or an organ's name"),
    (NarrowHUWindow | None, None, {}, "LOW,HIGH in HU, or an organ's name, or none"),
    (Any, 1, {}, "any value"),
]


@pytest.mark.parametrize(
    ("annotation", "default", "bounds", "kind"), KINDS, ids=[kind for _, _, _, kind in KINDS]
)
def test_a_type_in_plain_words(annotation: Any, default: Any, bounds: dict[str, Any], kind: str) -> None:
    assert row_of(annotation, default, **bounds).kind == kind


def test_of_an_unknown_class_the_name_is_all_that_is_known() -> None:
    info = FieldInfo(annotation=ScannerModel, default=None)
    assert option_row("scanner", info).kind == "scanner model"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (0, "0"),
        (1e-4, "0.0001"),
        (-200.0, "-200"),
        (0.1 + 0.2, "0.30000000000000004"),
        (100 / 131, "0.7633587786259542"),
        (1e22, "1e+22"),
        ((-200.0, 300.0), "-200,300"),
        ([], "none"),
        ("", ""),
        ("1,2", "1,2"),
        (Colour.BLUE, "blue"),
        (PureWindowsPath("a\\b"), "a/b"),
        ([None, True], "none,true"),
    ],
)
def test_a_value_as_one_would_type_it(value: Any, text: str) -> None:
    assert typed(value) == text


class Typed(Options):
    whole: int | None = option(None, description="Whole.")
    real: float = option(0.0, description="Real.")
    flag: bool = option(False, description="Flag.")
    pair: tuple[float, float] = option((0.0, 1.0), description="Pair.")
    many: tuple[int, ...] = option((), description="Many.")
    few: frozenset[int] = option(frozenset(), description="Few.")


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Typed,
        whole=st.none() | st.integers(),
        real=FINITE,
        flag=st.booleans(),
        pair=st.tuples(FINITE, FINITE),
        many=st.lists(st.integers()).map(tuple),
        few=st.frozensets(st.integers()),
    )
)
def test_what_is_typed_is_read_as_the_value_that_it_was(options: Typed) -> None:
    fields = Typed.model_fields
    read = {name: parse_value(typed(getattr(options, name)), info) for name, info in fields.items()}
    assert Typed.model_validate(read) == options


# Every option of what is installed -----------------------------------------------------------------------


def all_options() -> Iterator[tuple[str, type[Options]]]:
    yield "run", RunOptions
    yield "relax", RelaxOptions
    for kind in registry.GROUPS:
        for plugin in registry.installed(kind):
            if plugin.distribution.startswith("cbirbench"):
                yield plugin.name, registry.load(plugin).options_type


PLAIN = re.compile(
    r"""(whole\ number|number|text|path)s?\b.*
    | (one\ of|only)\ .+ | true\ or\ false | \d\ numbers,\ separated\ by\ a\ comma
    | LOW,HIGH\ in\ HU,\ or\ an\ organ's\ name""",
    re.VERBOSE,
)
REPR = re.compile(r"[<>\[\](){}]|None|True|False|typing|pydantic|class|'(?!s )")


def test_every_option_of_ours_is_told_in_plain_words() -> None:
    seen = 0
    for name, options_type in all_options():
        for row in option_rows(options_type):
            seen += 1
            assert PLAIN.fullmatch(row.kind), f"{name}.{row.name}: {row.kind}"
            assert not REPR.search(row.kind), f"{name}.{row.name}: {row.kind}"
            assert row.description.endswith("."), f"{name}.{row.name} has no sentence that says what it sets"
            assert not row.required
    assert seen > 80


def test_every_default_of_ours_can_be_typed() -> None:
    for name, options_type in all_options():
        fields = options_type.model_fields
        profiles: dict[str, Callable[[OptionRow], str]] = {
            "paper": lambda row: row.default,
            "released-code": lambda row: row.profiles.get("released-code", row.default),
        }
        for profile, value in profiles.items():
            texts = {row.name: value(row) for row in option_rows(options_type)}
            read = {key: parse_value(text, fields[key]) for key, text in texts.items()}
            expected = {
                key: (info.json_schema_extra or {})["profiles"].get(profile, info.default)  # type: ignore[index]
                for key, info in fields.items()
            }
            assert options_type.model_validate(read) == options_type.model_validate(expected), name
