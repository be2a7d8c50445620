from __future__ import annotations

import xml.etree.ElementTree as ET

import formulas
import pytest

SPACE = "{http://www.w3.org/1998/Math/MathML}"


def test_a_fraction() -> None:
    math = ET.fromstring(formulas.inline(r"\frac{1}{k}"))

    fraction = math.find(f".//{SPACE}mfrac")
    assert fraction is not None
    assert [part.text for part in fraction.iter() if part.text] == ["1", "k"]
    assert math.get("display") == "inline"


def test_a_block_is_shown_as_one() -> None:
    division = ET.fromstring(formulas.block("x\n"))

    assert division.get("class") == "formula"
    assert division[0].get("display") == "block"


@pytest.mark.parametrize("latex", [r"\nosuch{x}", "x_{"])
def test_what_is_no_latex_is_refused(latex: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        formulas.inline(latex)
