from __future__ import annotations

import warnings

import pytest

from cbirbench.doubts import heard
from cbirbench.errors import DataError, DataWarning


def test_doubts_are_kept_once_and_in_order() -> None:
    notes = ["before"]
    with heard(notes):
        for text in ("tilted", "before", "tilted", "stretched"):
            warnings.warn(text, DataWarning, stacklevel=1)
    assert notes == ["before", "tilted", "stretched"]


def test_other_warnings_go_on() -> None:
    notes: list[str] = []
    with pytest.warns(UserWarning, match="somebody else's"), heard(notes):
        warnings.warn("somebody else's", stacklevel=1)
    assert notes == []


def test_an_error_goes_on() -> None:
    with pytest.raises(DataError), heard([]):
        raise DataError("damaged")
