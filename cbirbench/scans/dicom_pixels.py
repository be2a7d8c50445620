"""Decoding the pixels of DICOM files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from cbirbench.errors import DataError
from cbirbench.scans.dicom_headers import numbers_of, read_header, word_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
"""The elements that say how pixels are stored."""

_STORED_PIXELS = (*PIXEL_TAGS, "PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_QUOTED = (
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_DECODERS = {
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg-openjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg-openjpeg",
    "JPEG": "python-gdcm (or pylibjpeg-libjpeg, which is GPL)",
}


def decoded_frames(path: Path, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Decode frames of a DICOM file; bits beyond BitsStored do not count.

    Raises:
        DataError: The pixels are missing, truncated or damaged, or no decoder can read them.
    """
    header = read_header(path, _STORED_PIXELS)
    syntax = header.file_meta.TransferSyntaxUID
    if "PixelData" not in header:
        raise DataError(f"{path} has no pixels.", "Copy or export the file again.")
    allocated = int(numbers_of(path, header, "BitsAllocated")[0])
    bits = int(numbers_of(path, header, "BitsStored", default=(allocated,))[0])
    high = int(numbers_of(path, header, "HighBit", default=(bits - 1,))[0])
    signed = bool(numbers_of(path, header, "PixelRepresentation", default=(0,))[0])
    _check_shown(path, header)
    for frame in frames:
        try:
            bare_bits = allocated == 1 and not syntax.is_encapsulated
            stored = _unpacked(header, frame) if bare_bits else pixel_array(header, index=frame, raw=True)
        except Exception as error:  # decoders raise many kinds
            text = " ".join(str(error).split())
            missing = package_for(syntax)
            raise DataError(
                f"The pixels of {path} ({_name(syntax)}) cannot be decoded: {text[:300]}",
                "Copy or export the file again"
                + (f", or install {missing}." if missing and not _sure(syntax) else "."),
            ) from None
        if 0 < bits < allocated <= 16:
            wide = stored.astype(np.int32 if signed else np.uint32)
            stored = (wide << (31 - high)) >> (32 - bits)  # fills up with the sign, where there is one
        yield stored


def _unpacked(header: Dataset, frame: int) -> NDArray[np.uint8]:
    """A frame of single bits; it may begin and end within a byte, where pydicom 3.0 fails."""
    shape = int(header.Rows), int(header.Columns)
    first = frame * shape[0] * shape[1]
    last = first + shape[0] * shape[1]
    packed = np.frombuffer(header.PixelData[first // 8 : -(-last // 8)], dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + last - first]
    return bits.reshape(shape)  # an error where there are too few


def check_decoder(path: Path, syntax: str) -> None:
    """Check that pixels in a transfer syntax can be decoded.

    Raises:
        DataError: They cannot; the message names the package to install.
    """
    try:
        if get_decoder(UID(syntax)).is_available:
            return
    except NotImplementedError:
        pass
    package = package_for(syntax)
    raise DataError(
        f"{path} is compressed as {_name(syntax)}, for which no decoder is installed.",
        (f"Install {package} with pip, or decompress" if package else "Decompress")
        + " the files first, with DCMTK's dcmdjpeg or gdcmconv --raw for instance.",
    )


def package_for(syntax: str) -> str:
    """The package that decodes a transfer syntax; empty where none does or none is needed."""
    name = _name(syntax)
    return next((package for start, package in _DECODERS.items() if name.startswith(start)), "")


def _check_shown(path: Path, header: Dataset) -> None:
    """Check elements that decoders' errors may quote: of a wrong length, they hold others after them."""
    word_of(path, header, "PhotometricInterpretation")
    for keyword in _QUOTED:
        numbers_of(path, header, keyword, default=(0,))


def _name(syntax: str) -> str:
    """What a transfer syntax is called; of one that is not known, its number, if it is one."""
    uid = UID(syntax)
    name = str(uid.name)
    return name if name != uid or re.fullmatch("[0-9.]{1,64}", name) else "an unknown transfer syntax"


def _sure(syntax: str) -> bool:
    """Whether the installed decoder reads all of a syntax: Pillow's reads 8 bits of plain JPEG, not 12."""
    return not package_for(syntax).startswith("python-gdcm")
