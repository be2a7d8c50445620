"""Markdown from plain text: names and values come from plugins and data, and must break nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cbirbench.report.scoreboard import plain, value_text


def inline(text: object) -> str:
    """Text as Markdown shows it literally, on one line: names and values come from plugins and data."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", plain(text))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def pairs(facts: Mapping[str, Any], header: tuple[str, str] = ("", "")) -> list[str]:
    """A table of names and values; nothing where there are none."""
    rows = [[inline(key), inline(value_text(value))] for key, value in facts.items()]
    return table(header, rows) if rows else []
