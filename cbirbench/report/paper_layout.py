"""What a table of the paper consists of, before any markup: headings, cells, footnotes and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cbirbench.report.scoreboard import Scoreboard


@dataclass(frozen=True)
class Note:
    """A footnote: plain text, and a command to go with it."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell: plain text, whether it is bold here and in the paper, and the letters of its footnotes."""

    text: str
    bold: bool = False
    bold_in_paper: bool = False
    letters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heading:
    """A column's heading: the paper's metric above, then what is computed, then from where, in two lines."""

    group: str
    metric: str
    source: tuple[str, str]


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        number: The paper's.
        title: What it shows, and on which data.
        first: Heading of the first column.
        headings: Of the other columns.
        rows: Label and cells, as many as `headings`.
        footnotes: By letter, in order of the letters.
        notes: What holds for the whole table.
        boards: The tests behind each profile's column, by profile.
    """

    number: int
    title: str
    first: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    footnotes: Mapping[str, Note]
    notes: tuple[Note, ...]
    boards: Mapping[str, Scoreboard] = field(default_factory=dict)


@dataclass
class Footnotes:
    """Letters for footnotes, in the order in which they are first called for."""

    letters: dict[Note, str] = field(default_factory=dict)

    def letters_of(self, *notes: Note) -> tuple[str, ...]:
        """The letters of footnotes, in order; the same for the same text."""
        places = {self.letters.setdefault(note, _letter(len(self.letters))) for note in notes}
        return tuple(letter for letter in self.letters.values() if letter in places)

    def by_letter(self) -> dict[str, Note]:
        """All that were called for."""
        return {letter: note for note, letter in self.letters.items()}


def _letter(position: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    round_, place = divmod(position, len(alphabet))
    return alphabet[place] * (round_ + 1)
