"""CSV and Parquet tables as text, with the line that each row stands on, for messages."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbirbench.errors import DataError, DataWarning

TABLE_ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
"""Files that `read_table` reads."""

_SHOWN = 5  # lines, files or names that a message lists


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
        DataError: It cannot be read, is empty, or lacks a column.
    """
    frame = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    names = [str(column).strip().lower() for column in frame.columns]
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
            f"{hint}Columns that are read: {', '.join(known)}.",
        )
    twice = sorted({name for name in names if name in known and names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}.", "Rename one of them.")
    unknown = [name for name in names if name not in known]
    if unknown:
        warnings.warn(
            f"{path} has columns that are not read: {', '.join(unknown[:_SHOWN])}. Columns that are read: "
            f"{', '.join(known)}.",
            DataWarning,
            stacklevel=2,
        )
    rows = [
        TextRow(int(line), {n: str(v).strip() for n, v in zip(names, values, strict=True) if n in known})
        for line, values in zip(frame.index, frame.itertuples(index=False, name=None), strict=True)
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


def _csv(path: Path) -> Any:
    import pandas as pd

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
    header = next(iter(text.splitlines()), "")
    if not header.strip():
        raise DataError(f"{path} is empty, or its first line is.", "Its first line names the columns.")
    separator = max(",;\t", key=header.count)  # the first of equals, a comma
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
            index_col=False,
            on_bad_lines="error",
        )
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise _unreadable(path, error) from error
    frame.index = frame.index + 2
    return frame.fillna("")


def _parquet(path: Path) -> Any:
    import pandas as pd
    from pyarrow import ArrowException

    try:
        frame = pd.read_parquet(path).reset_index(drop=True)
    except (OSError, ValueError, ArrowException) as error:
        raise _unreadable(path, error) from error
    frame.index = frame.index + 1
    return frame.astype(object).map(_as_text)


def _as_text(value: Any) -> str:
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    # A column of whole numbers with gaps is one of floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return DataError(f"{path} cannot be read as a table: {reason}.", "Check the file; save or copy it again.")
