"""Formulas as MathML, which browsers draw by themselves: no script is loaded for them."""

from __future__ import annotations

from latex2mathml.converter import convert


def block(latex: str) -> str:
    """A formula on lines of its own.

    Raises:
        ValueError: It is not LaTeX that can be converted.
    """
    return f'<div class="formula">{_mathml(latex, "block")}</div>'


def inline(latex: str) -> str:
    """A formula within a line.

    Raises:
        ValueError: It is not LaTeX that can be converted.
    """
    return _mathml(latex, "inline")


def _mathml(latex: str, display: str) -> str:
    try:
        mathml: str = convert(latex.strip(), display=display)
    except Exception as error:  # the library's errors share no base class of their own
        raise ValueError(f"{type(error).__name__} in the formula {latex.strip()}") from error
    if "\\" in mathml:
        raise ValueError(f"an unknown command in the formula {latex.strip()}")
    return mathml
