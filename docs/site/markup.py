"""Text as Markdown that shows it as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"`([^`\n]+)`")
_LITERAL = re.compile(r"[^\w\s.,;()/'%+-]")


def text(words: str) -> str:
    """One line of prose; what stands in backticks becomes code, everything else is taken literally."""
    parts = _CODE.split(" ".join(words.split()))
    return "".join(code(part) if number % 2 else _literal(part) for number, part in enumerate(parts))


def code(words: str, *, whole: bool = False) -> str:
    """Code within a line or a cell, taken as it is; `whole` keeps it in one line."""
    kind = ' class="whole"' if whole else ""
    return f"<code{kind}>{_literal(words)}</code>" if words else ""


def _literal(words: str) -> str:
    return _LITERAL.sub(lambda match: f"&#{ord(match[0])};", words).replace("_", "&#95;")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; columns without any content are left out."""
    body = [tuple(row) for row in rows]
    kept = [place for place in range(len(header)) if any(row[place] for row in body)]
    lines = [[header[place] for place in kept], ["---"] * len(kept)]
    lines += [[row[place] for place in kept] for row in body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def fence(content: str, language: str) -> str:
    """A block of code, fenced longer than any fence in it."""
    ticks = "`" * (max((len(run) for run in re.findall(r"`{3,}", content)), default=2) + 1)
    return f"{ticks}{language}\n{content.rstrip()}\n{ticks}\n"
