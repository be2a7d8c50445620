"""``tables.md``: the paper's tables for reading."""

from __future__ import annotations

from collections.abc import Sequence

from cbirbench.report.markup import inline, table
from cbirbench.report.paper_layout import Cell, Heading, Note, PaperTable
from cbirbench.report.significance import comparison_table


def tables_markdown(tables: Sequence[PaperTable], runs: Sequence[str], figures: Sequence[str]) -> str:
    """All tables in Markdown, each with its footnotes and the tests behind its bold figures.

    Args:
        tables: In order.
        runs: What each run is and where it lies, a line each, as plain text.
        figures: Lines of Markdown on the figures; empty where there is nothing to say.
    """
    sections = [
        [
            "# The paper's tables, from our runs",
            "",
            "From these runs:",
            "",
            *(f"- {inline(run)}" for run in runs),
        ],
        *(_section(item) for item in tables),
    ]
    if figures:
        sections.append(["## Figures", "", *figures])
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _section(item: PaperTable) -> list[str]:
    header = [inline(item.first), *(inline(_heading(part)) for part in item.headings)]
    rows = [[inline(label), *map(_cell, cells)] for label, cells in item.rows]
    lines = [f"## Table {item.number}. {inline(item.title)}", "", *table(header, rows), ""]
    lines += [f"- <sup>{letter}</sup> {_note(note)}" for letter, note in item.footnotes.items()]
    lines += [f"- {_note(note)}" for note in item.notes]
    for profile, board in item.boards.items():
        if board.comparisons:
            lines += ["", f"Tests of this table, profile {inline(profile)}:", "", *comparison_table(board)]
    return lines


def _heading(part: Heading) -> str:
    source = " ".join(part.source).strip()
    return f"{part.metric}: {source}" if source else part.metric


def _cell(cell: Cell) -> str:
    text = inline(cell.text)
    if cell.bold:
        text = f"**{text}**"
    if cell.bold_in_paper:
        text += "\\*"
    return text + (f" <sup>{','.join(cell.letters)}</sup>" if cell.letters else "")


def _note(note: Note) -> str:
    return inline(note.text) + (f" {_code(note.command)}" if note.command else "")


def _code(command: str) -> str:
    """A command as code, whatever backticks it holds."""
    fence = "`"
    while fence in command:
        fence += "`"
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{command}{space}{fence}"
