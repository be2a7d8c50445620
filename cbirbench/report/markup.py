"""Markdown from plain text: names and values come from plugins and data, and must break nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cbirbench.report.scoreboard import plain


def inline(text: object) -> str:
    """Text as Markdown shows it literally, on one line: names and values come from plugins and data."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", plain(text))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
