"""Reading CT scans and their masks from NRRD and MetaImage files, by SimpleITK."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its own convention)
from isal import igzip, isal_zlib

from cbirbench.errors import DataError
from cbirbench.scans.geometry import Grid, check_affine
from cbirbench.scans.volume import (
    MOST_COMPRESSION,
    READ_ERRORS,
    ChosenSlices,
    Volume,
    as_mask_values,
    check_hu,
    check_same_grid,
    unreadable,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ITK knows the patient's directions in these; in others, such as scanner-xyz, axes mean something else.
_ANATOMICAL = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior")
_META_ORIENTATION = ("transformmatrix", "rotation", "orientation")
# How many numbers these hold: one a dimension, or a matrix.
_META_NUMBERS = {
    **dict.fromkeys(
        ("dimsize", "elementspacing", "elementsize", "offset", "position", "origin", "centerofrotation"), 1
    ),
    **dict.fromkeys(_META_ORIENTATION, 2),
}
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[\w .+/\\-]{0,100}")
_LONGEST_HEADER = 1 << 20
_FIELD = re.compile(r"([^:=#]+?)\s*(?::=|:|=)\s*(.*)")
_CHUNK = 1 << 20

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # errors are raised; what ITK prints besides confuses


class _Stored(NamedTuple):
    """Where voxels are: a file, from which byte on, in how many bytes, and whether deflated."""

    file: Path
    offset: int
    size: int
    compressed: bool


@dataclass(frozen=True, eq=False)
class ItkVolume(Volume):
    """A 3-D NRRD or MetaImage file, known by its header.

    Attributes:
        path: The file, or the header of a detached pair.
        grid: Where its voxels lie.
        stated: False where it names no anatomical space, or its geometry is the default of a file without.
        compressed: Where its voxels are, if they are compressed; None otherwise.
    """

    path: Path
    grid: Grid
    stated: bool
    compressed: _Stored | None

    def placed(self, grid: Grid) -> ItkVolume:
        """See `Volume`."""
        return replace(self, grid=grid)

    def read_mask(self, image: Volume) -> NDArray[np.uint8]:
        """See `Volume`."""
        check_same_grid(image, self)
        held = self._read()
        stored = sitk.GetArrayViewFromImage(held).T
        values = np.empty(self.grid.shape, dtype=np.uint8, order="F")
        for k in range(stored.shape[2]):
            values[:, :, k] = as_mask_values(self.path, stored[:, :, k])
        return self.grid.radiological_view(values)

    def read_hu(self, positions: Sequence[int]) -> NDArray[np.int16]:
        """See `Volume`."""
        held = self._read()  # the view below looks into its memory
        stored = sitk.GetArrayViewFromImage(held).T  # ITK's arrays have the first axis last
        check_hu(self.path, float(stored.min()), float(stored.max()))  # NaN in, NaN out
        chosen = ChosenSlices(self.grid, positions)
        for k in chosen.planes(stored.shape[2]):
            chosen.add(k, stored[:, :, k])
        return chosen.hu

    def _read(self) -> Any:
        if self.compressed is not None:
            _check_compression(self.compressed)
        try:
            return sitk.ReadImage(str(self.path))
        except RuntimeError as error:
            raise unreadable(self.path, _shortened(error)) from None


def open_itk(path: Path) -> ItkVolume:
    """Read the header of an NRRD or MetaImage file and check it.

    Raises:
        DataError: The file is missing, damaged, too small for its header, in colour or not 3-D.
    """
    fields, end = _header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(path, _shortened(error)) from None
    shape, components = tuple(int(n) for n in reader.GetSize()), reader.GetNumberOfComponents()
    if components != 1:
        raise DataError(
            f"{path} holds {components} values a voxel, colours or vectors.",
            "Save it with one value a voxel.",
        )
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(
            f"{path} must hold one 3-D volume, its shape is {shape}.",
            "Save the wanted time point or channel as a 3-D volume.",
        )
    stored = _stored(path, fields, end)
    if stored is not None:
        item_bytes = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        _check_size(stored, int(np.prod(shape, dtype=object)) * item_bytes)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    is_stated = _is_stated(reader, fields) and not np.array_equal(affine, np.eye(4))
    affine[:2] *= -1  # ITK counts to the left and posterior, NIfTI to the right and anterior
    check_affine(path, affine)
    compressed = stored if stored is not None and stored.compressed else None
    return ItkVolume(path, Grid((shape[0], shape[1], shape[2]), affine), is_stated, compressed)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a header by their names in lower case, and how many bytes it takes.

    SimpleITK hands on some of them only, and MetaImage's reader prints what is wrong instead of raising it.
    """
    fields: dict[str, str] = {}
    end = 0
    try:
        with path.open("rb") as stream:
            for line in iter(lambda: stream.readline(_LONGEST_HEADER), b""):
                end += len(line)
                match = _FIELD.fullmatch(line.decode("utf-8", "replace").strip())
                if match:
                    fields[match[1].lower()] = match[2]
                # NRRD's header ends with an empty line, MetaImage's with the name of the data's file.
                if not line.strip() or "elementdatafile" in fields or end > _LONGEST_HEADER:
                    break
    except OSError as error:
        raise unreadable(path, error) from error
    needed = (
        ("ndims", "dimsize", "elementtype", "elementdatafile")
        if _is_meta(path)
        else ("type", "dimension", "sizes")
    )
    lacking = [name for name in needed if name not in fields]
    if lacking:
        kind = "a MetaImage" if _is_meta(path) else "an NRRD"
        raise DataError(
            f"{path} is truncated or not {kind} file: its header has no {lacking[0]}.",
            "Copy or convert the file again.",
        )
    if _is_meta(path):
        _check_meta(path, fields)
    return fields, end


def _check_meta(path: Path, fields: dict[str, str]) -> None:
    """Check a MetaImage's numbers: its reader may crash on a wrong number of dimensions."""
    count = int(fields["ndims"]) if re.fullmatch("[1-9]", fields["ndims"]) else 0
    wrong = "" if count else "ndims"
    for name, power in _META_NUMBERS.items():
        numbers = fields.get(name, "").split()
        if name in fields and not (
            len(numbers) == count**power and all(_NUMBER.fullmatch(number) for number in numbers)
        ):
            wrong = wrong or name
    sizes = fields["dimsize"].split()
    if not all(re.fullmatch("[1-9][0-9]*", size) for size in sizes):
        wrong = wrong or "dimsize"
    if wrong:
        raise DataError(
            f"{path} has a damaged MetaImage header: {wrong} is {_quoted(fields[wrong])}.",
            "Copy or convert the file again.",
        )


def _stored(path: Path, fields: dict[str, str], end: int) -> _Stored | None:
    """Where a file's voxels are; None for a file a slice and for encodings that are left to ITK."""
    name = fields.get("elementdatafile") or fields.get("data file") or fields.get("datafile") or "LOCAL"
    if name.upper().startswith("LIST") or "%" in name or fields.keys() & {"byte skip", "line skip"}:
        return None
    local = name.upper() == "LOCAL"
    file, offset = (path, end) if local else (path.parent / name, 0)
    try:
        size = file.stat().st_size - offset
    except (OSError, ValueError):  # the latter where a damaged name holds a zero byte
        raise DataError(
            f"{path} keeps its voxels in {_quoted(name)}, which is not there.",
            "Copy both files into one folder.",
        ) from None
    if _is_meta(path):
        binary = fields.get("binarydata", "true").lower() == "true"
        compressed = fields.get("compresseddata", "").lower() == "true"
    else:
        encoding = fields.get("encoding", "raw").lower()
        binary, compressed = encoding in ("raw", "gz", "gzip"), encoding in ("gz", "gzip")
    return _Stored(file, offset, size, compressed) if binary else None


def _check_size(stored: _Stored, promised: int) -> None:
    """Refuse a header that promises more than its file can hold, before memory is asked for."""
    if stored.size * (MOST_COMPRESSION if stored.compressed else 1) < promised:
        raise unreadable(
            stored.file, EOFError(f"its {stored.size} bytes of voxels are fewer than the header says")
        )


def _check_compression(stored: _Stored) -> None:
    """Inflate compressed voxels once for their checksum, which ITK does not look at."""
    try:
        with stored.file.open("rb") as stream:
            stream.seek(stored.offset)
            zipped = stream.read(2) == b"\x1f\x8b"
            stream.seek(stored.offset)
            if zipped:
                with igzip.IGzipFile(fileobj=stream) as inflated:
                    while inflated.read(_CHUNK):
                        pass
                return
            inflater = isal_zlib.decompressobj()
            while not inflater.eof:
                data = inflater.unconsumed_tail or stream.read(_CHUNK)
                if not data:
                    raise EOFError("its compressed voxels end too soon")
                inflater.decompress(data, _CHUNK)
    except READ_ERRORS as error:
        raise unreadable(stored.file, error) from None


def _is_meta(path: Path) -> bool:
    return path.name.lower().endswith((".mha", ".mhd"))


def _is_stated(reader: Any, fields: dict[str, str]) -> bool:
    if "NRRD_space" in reader.GetMetaDataKeys():
        return reader.GetMetaData("NRRD_space") in _ANATOMICAL and "space directions" in fields
    return any(name in fields for name in _META_ORIENTATION)


def _quoted(text: str) -> str:
    """A header's value as it may be shown: where a line's end is lost it holds what stood on the next."""
    return repr(text) if _PLAIN.fullmatch(text) else "something else"


def _shortened(error: RuntimeError) -> Exception:
    """The last line of NRRD's long story, without what it quotes; MetaImage's reader says nothing of use."""
    last = re.sub('".*"', "a value", str(error).strip().splitlines()[-1].strip())
    if "allocate" in last:
        return MemoryError("it does not fit into memory")
    return ValueError(last.removeprefix("[nrrd] ") if last.startswith("[nrrd]") else "its data are damaged")
