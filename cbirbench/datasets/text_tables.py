"""CSV and Parquet tables as text, with the line that each row stands on, for messages."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cbirbench.errors import DataError, DataWarning
from cbirbench.plain_text import many

TABLE_ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
"""Files that `read_table` reads."""

_SHOWN = 5  # lines, files or names that a message lists
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}  # the first of equals, a comma


class _Table(NamedTuple):
    """Names of columns, and the rows, each with its line and a cell a column."""

    names: list[str]
    rows: list[tuple[int, list[str]]]


@dataclass(frozen=True)
class TextRow:
    """One row of a table.

    Attributes:
        line: Where it stands in the file, the header on line 1; in a Parquet file, the row counted from 1.
        cells: Its texts by column, without spaces around them; empty where there is none.
    """

    line: int
    cells: Mapping[str, str]


def read_table(
    path: Path, *, required: Iterable[str], optional: Iterable[str], aliases: Mapping[str, str] | None = None
) -> list[TextRow]:
    """Read a table whose every cell is text: an id of ``007`` stays ``007``.

    Args:
        path: A CSV file in UTF-8, separated by commas, semicolons or tabs, or a Parquet file.
        required: Columns that it must have.
        optional: Columns that it may have; others are warned of and left out.
        aliases: Other names of columns, and what they stand for where there is no column of that name.

    Returns:
        Its rows but for empty ones; columns in lower case.

    Raises:
        DataError: It cannot be read, is empty, lacks a column, or a row has more cells than there are
            columns.
    """
    table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    names = [name.strip().lower() for name in table.names]
    for place, name in enumerate(names):
        meant = (aliases or {}).get(name, name)
        if meant not in names:
            names[place] = meant
    required, known = list(required), [*required, *optional]
    missing = [name for name in required if name not in names]
    if missing:
        strangers = [name for name in names if name not in known]
        close = difflib.get_close_matches(missing[0], strangers, n=1)
        hint = f"If {close[0]!r} is meant, call it {missing[0]!r}. " if close else ""
        raise DataError(
            f"{path} has no column {' or '.join(map(repr, missing))}; its columns are {', '.join(names)}.",
            f"{hint}Columns that are read: {_with_aliases(known, aliases or {})}.",
        )
    twice = sorted({name for name in names if name in known and names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}.", "Rename one of them.")
    unknown = [
        name or "one without a name"
        for place, name in enumerate(names)
        if name not in known and (name or any(cells[place].strip() for _, cells in table.rows))
    ]
    if unknown:
        warnings.warn(
            f"{path} has columns that are not read: {listing(unknown)}. Columns that are read: "
            f"{_with_aliases(known, aliases or {})}.",
            DataWarning,
            stacklevel=2,
        )
    rows = [
        TextRow(line, {name: cell.strip() for name, cell in zip(names, cells, strict=True) if name in known})
        for line, cells in table.rows
    ]
    rows = [row for row in rows if any(row.cells.values())]
    if not rows:
        raise DataError(f"{path} has no rows.", "Give it one row a scan, or a slice.")
    return rows


def at_lines(lines: Sequence[int]) -> str:
    """``line 3``, or ``lines 3, 5, 8``, the first few."""
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:_SHOWN]))}{more}"


def listing(names: Iterable[object]) -> str:
    """The first few of some names, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"


def _with_aliases(names: Iterable[str], aliases: Mapping[str, str]) -> str:
    """The names of columns, each with the others that it may bear."""
    shown = []
    for name in names:
        others = [alias for alias, meant in aliases.items() if meant == name]
        shown.append(f"{name} (or {', '.join(others)})" if others else name)
    return ", ".join(shown)


def _csv(path: Path) -> _Table:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not in UTF-8: line {line} holds the byte 0x{error.object[error.start]:02x}.",
            "Save it anew as CSV UTF-8.",
        ) from error
    # Excel's own first line.
    stated = re.match(r"sep=([^\w\s\"]|\t)\r?\n", text, re.IGNORECASE)
    if stated:
        text = text[stated.end() :]
    header = next(iter(text.splitlines()), "")
    if not header.strip():
        raise DataError(f"{path} is empty, or its first line is.", "Its first line names the columns.")
    separator = stated[1] if stated else max(_SEPARATORS, key=header.count)
    (_, names), *rows = _split(path, text, separator, first_line=2 if stated else 1)
    ragged = [line for line, cells in rows if any(cell.strip() for cell in cells[len(names) :])]
    if ragged:
        raise DataError(
            f"{path} cannot be read as a table: there are more cells than the {many(len(names), 'column')} "
            f"on {at_lines(ragged)}.",
            f"Put a cell that holds {_SEPARATORS.get(separator, repr(separator))} itself between quotation "
            "marks.",
        )
    blank = [""] * len(names)
    return _Table(names, [(line, [*cells, *blank][: len(names)]) for line, cells in rows])


def _split(path: Path, text: str, separator: str, first_line: int) -> list[tuple[int, list[str]]]:
    """The cells of each row, with the line that it begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = first_line
    try:
        for cells in reader:
            rows.append((line, cells))
            line = reader.line_num + first_line
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        why = "a quotation mark opens and is never closed" if unclosed else str(error)
        raise _unreadable(path, ValueError(f"line {line}: {why}")) from error
    return rows


def _parquet(path: Path) -> _Table:
    import pandas as pd
    from pyarrow import ArrowException

    try:
        frame = pd.read_parquet(path).reset_index(drop=True)
    except (OSError, ValueError, ArrowException) as error:
        raise _unreadable(path, error) from error
    texts = frame.astype(object).map(_as_text).itertuples(index=False, name=None)
    return _Table([str(name) for name in frame.columns], [(n, [*cells]) for n, cells in enumerate(texts, 1)])


def _as_text(value: Any) -> str:
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    # A column of whole numbers with gaps is one of floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return DataError(f"{path} cannot be read as a table: {reason}.", "Check the file; save or copy it again.")
