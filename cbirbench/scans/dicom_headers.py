"""Reading the headers of DICOM files, with errors in words that quote no patient's data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom import config
from pydicom.dataset import Dataset

from cbirbench.errors import DataError
from cbirbench.scans.volume import unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Headers are checked here, in our words: pydicom's own warnings would print the values that they find.
config.settings.reading_validation_mode = config.IGNORE

_CODE_WORD = re.compile("[A-Z0-9_ ]{1,16}")
_LONGEST_TEXT = 100
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # pictures of a screen, such as dose reports


def read_header(path: Path, tags: Sequence[str]) -> Dataset:
    """Read chosen elements of a DICOM file, which may include its pixels.

    Args:
        path: The file.
        tags: Keywords of the elements.

    Raises:
        DataError: It cannot be read.
    """
    try:
        # Files without preamble are read too; which encoding they have is then found out, and kept.
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(
                path, force=True, specific_tags=list(tags), stop_before_pixels="PixelData" not in tags
            )
        syntax = header.file_meta.get("TransferSyntaxUID")
        if syntax and not isinstance(syntax, str):
            raise ValueError("several transfer syntaxes")
        if not syntax:
            header.file_meta.TransferSyntaxUID = _syntax_found(header)
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception:
        # pydicom lets many kinds of errors through, and their texts may quote the file.
        raise DataError(
            f"{path} is truncated, or its DICOM header is damaged.", "Copy or export the file again."
        ) from None
    return header


def value_of(path: Path, header: Dataset, keyword: str) -> Any:
    """An element's value; None where it is absent or empty.

    Raises:
        DataError: It is there and cannot be understood.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of a character set, which they quote
            value = header.get(keyword)
    except Exception:  # the texts of pydicom's errors may quote the file
        raise _not_understood(path, keyword) from None
    return None if value is None or value == "" else value


def identifier_of(path: Path, header: Dataset, keyword: str) -> str:
    """An element's value as it is, to be compared and never to be shown; empty where it is absent."""
    value = value_of(path, header, keyword)
    return "" if value is None else str(value).strip(" \0")


def text_of(path: Path, header: Dataset, keyword: str) -> str:
    """An element's value as text that may be shown; empty where it is absent.

    An element whose length is wrong holds those after it, the patient's name among them, with zero bytes
    between.

    Raises:
        DataError: It is too long, of several values, not printable or like a person's name.
    """
    value = value_of(path, header, keyword)
    if value is None:
        return ""
    text = value.strip(" \0") if isinstance(value, str) else "\0"
    if len(text) > _LONGEST_TEXT or not text.isprintable() or "^" in text:
        raise _not_understood(path, keyword)
    return text


def word_of(path: Path, header: Dataset, keyword: str) -> str:
    """An element's value as a word of capitals, such as ``CT``; empty where it is absent.

    Raises:
        DataError: It is something else.
    """
    word = text_of(path, header, keyword).upper()
    if word and not _CODE_WORD.fullmatch(word):
        raise _not_understood(path, keyword)
    return word


def numbers_of(
    path: Path, header: Dataset, keyword: str, count: int = 1, default: tuple[float, ...] | None = None
) -> NDArray[np.float64]:
    """An element's values as numbers.

    Args:
        path: The file.
        header: Its header, or an item of it.
        keyword: The element.
        count: How many values it must have.
        default: What holds where it is absent or empty; None where it must be there.

    Raises:
        DataError: It is absent, has another number of values, or not finite ones.
    """
    value = value_of(path, header, keyword)
    if value is None and default is not None:
        return np.array(default, dtype=np.float64)
    if value is None:
        raise DataError(f"{path} has no {keyword}.", "Export it again, with all that the scanner wrote.")
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise DataError(
            f"{path} has a {keyword} that is not {count} finite number{'s' * (count > 1)}.",
            "Export the file again.",
        )
    return numbers


def sequence_of(path: Path, header: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none where it is absent."""
    value = value_of(path, header, keyword)
    if value is None:
        return ()
    if not isinstance(value, pydicom.Sequence):
        raise _not_understood(path, keyword)
    return value


def functional_group(path: Path, header: Dataset, frame: int, keyword: str) -> Dataset:
    """A macro of one frame of a multi-frame file; what holds for all frames stands in the shared groups.

    Args:
        path: The file.
        header: Its header, with both sequences of functional groups.
        frame: Counted from 0.
        keyword: The macro's sequence, ``PlanePositionSequence`` for instance.

    Returns:
        The macro's only item; an empty one where the file does not have it.
    """
    per_frame = sequence_of(path, header, "PerFrameFunctionalGroupsSequence")
    for group in (
        *per_frame[frame : frame + 1],
        *sequence_of(path, header, "SharedFunctionalGroupsSequence"),
    ):
        items = sequence_of(path, group, keyword)
        if items:
            return items[0]
    return Dataset()


def sop_class(path: Path, header: Dataset) -> str:
    """SOPClassUID; where de-identification emptied it, as the file's meta information has it."""
    return identifier_of(path, header, "SOPClassUID") or identifier_of(
        path, header.file_meta, "MediaStorageSOPClassUID"
    )


def is_localizer(path: Path, header: Dataset) -> bool:
    """Whether an image is a localizer (scout, topogram), by its ImageType."""
    return "LOCALIZER" in identifier_of(path, header, "ImageType").upper()


def is_screen(path: Path, header: Dataset) -> bool:
    """Whether an image is the picture of a screen, such as a dose report: secondary capture, or in colour."""
    captured = sop_class(path, header).startswith(_SECONDARY_CAPTURE)
    return captured or value_of(path, header, "SamplesPerPixel") not in (None, 1)


def _not_understood(path: Path, keyword: str) -> DataError:
    return DataError(f"{path} has a {keyword} that cannot be understood.", "Copy or export the file again.")


def _syntax_found(header: Dataset) -> pydicom.uid.UID:
    implicit, little = header.original_encoding
    if not little:
        return pydicom.uid.ExplicitVRBigEndian
    return pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
