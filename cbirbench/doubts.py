"""What readers warn of: kept for the user and the records, where a warning alone would reach neither."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cbirbench.errors import DataWarning


@contextmanager
def heard(notes: list[str]) -> Iterator[None]:
    """Add to `notes` what is warned of scans within the block, each text once; other warnings go on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        yield
    for warning in caught:
        if not issubclass(warning.category, DataWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in notes:
            notes.append(str(warning.message))
