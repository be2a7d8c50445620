from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, model_validator

from cbirbench.conformance.option_values import another
from cbirbench.interfaces import Options, option
from cbirbench.windows import WideHUWindow


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("it is odd")
    return value


class Many(Options):
    flag: bool = option(True, description=".")
    count: int = option(3, description=".", ge=3, le=4)
    at_most: int = option(3, description=".", le=3)
    even: Annotated[int, AfterValidator(_even)] = option(4, description=".")
    share: float = option(1.0, description=".", gt=0, le=1)
    mode: Literal["a", "b"] = option("a", description=".")
    colour: Colour = option(Colour.RED, description=".")
    window: WideHUWindow = option((-200.0, 300.0), description=".")
    limit: int | None = option(None, description=".", ge=0)
    only: Literal["x"] = option("x", description=".")
    fixed: int = option(3, description=".", ge=3, le=3)
    path: Path | None = option(None, description=".")
    text: str = option("random", description=".")

    @model_validator(mode="after")
    def _mode_b_needs_red(self) -> Many:
        if self.mode == "b" and self.colour is not Colour.RED:
            raise ValueError("b is red")
        return self


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flag", False),
        ("count", 4),
        ("at_most", 2),
        ("even", 8),
        ("share", 0.5),
        ("mode", "b"),
        ("colour", Colour.BLUE),
        ("window", (-100.0, 300.0)),
        ("limit", 1),
        ("only", None),
        ("fixed", None),
        ("path", None),
        ("text", None),
    ],
)
def test_another_value_within_the_bounds(name: str, expected: Any) -> None:
    before = Many()
    changed = another(before, name)
    assert (None if changed is None else getattr(changed, name)) == expected
    if changed is not None:
        assert {key for key in Many.model_fields if getattr(changed, key) != getattr(before, key)} == {name}


def test_a_value_that_does_not_go_with_the_others_is_left() -> None:
    assert another(Many(mode="b"), "colour") is None
