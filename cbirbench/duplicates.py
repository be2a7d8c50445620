"""Slices of one patient found again under another name: by the image itself, and by an extractor's vectors.

The hash is the perceptual hash of Zauner (2010, Implementation and Benchmarking of Perceptual Image Hash
Functions): signs of low-frequency cosine coefficients against their median. Here it has 16 x 16 coefficients
instead of 8 x 8, as abdomens resemble each other more than photographs do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cbirbench.slices import Slices, batches_of_one_side, stacked_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOW = Literal["identical", "similar", "close"]

HASH_SIDE = 16
"""Cosine coefficients kept along each axis; a hash has the square of it, 256 bits."""

SIMILAR_BITS = 30
"""Most of a hash's 256 bits in which copies differ.

Measured on 328 slices of phantom and of real scans: 1 voxel shifted, noise of up to 40 HU, 8 bits, resampling
by 0.5 to 1.5 changed at most 26 bits, by 0.37 at most 38 (30 or fewer in 99 of 100). The nearest slices of
different bodies differed in 42 among 131 bodies of the phantom, in 68 among seven real scans, mirrored and
turned views included. Neighbouring slices of one real scan, 1.6 to 3 mm apart, mostly match.
"""

CLOSE_SHARE = 0.4
"""Distance of two slices, as a share of the usual one between patients, below which they count as close.

Measured with ImageNet features, HOG and Gabor filters: copies with noise of 10 HU came to at most .40, at 8
bits to .11; the nearest slices of different bodies to no less than .56, among 80 bodies of the phantom and
seven scans. Copies at another resolution mostly lie beyond: the hash finds those.
"""

MOST_CLOSE_IN_GALLERY = 0.05
"""Share of gallery slices close to another patient's beyond which an extractor's distances say nothing."""

_WINDOW = (-200, 300)
_THUMBNAIL = 64
_NO_STRUCTURE_HU = 1.0
_COLLAPSED = 1e-6
_COLUMNS_AT_ONCE = 2048
_SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class DuplicatePair:
    """A query slice, and a slice of another patient in the gallery that may be the same.

    Attributes:
        query_id: The query's slice id.
        gallery_id: The gallery's slice id.
        how: ``identical`` (the same HU), ``similar`` (by hash) or ``close`` (by embedding).
        distance: Bits that differ, of 256, or for ``close`` the distance as a share of the usual one.
    """

    query_id: str
    gallery_id: str
    how: HOW
    distance: float


def duplicates_by_hash(gallery: Slices, queries: Slices) -> list[DuplicatePair]:
    """Find slices that are the same picture, whatever they are called.

    Noise, rounding, resampling and a small shift are seen through, and so are mirrored and turned copies, as
    files without a stated orientation give them. Another field of view is not. Slices that show nothing in
    the wide window are left out, and so are pairs of one patient.

    Returns:
        For each query the closest slice of every patient concerned, in the order of the queries.
    """
    if not len(gallery) or not len(queries):
        return []
    stored, asked = _coefficients(gallery), _coefficients(queries)
    stored_bits = _bits(stored)
    agreement = np.full((len(queries), len(gallery)), -np.inf, dtype=np.float32)
    for turned in _turns(asked):
        np.maximum(agreement, _bits(turned) @ stored_bits.T, out=agreement)
    differing = (HASH_SIDE**2 - agreement) / 2.0
    differing[_shows_nothing(asked)] = np.inf
    differing[:, _shows_nothing(stored)] = np.inf
    identical = -1.0  # before all that is similar
    for row, column in _identical(queries, gallery):
        differing[row, column] = identical
    return [
        DuplicatePair(
            queries[row].slice_id,
            gallery[column].slice_id,
            "identical" if differing[row, column] == identical else "similar",
            max(float(differing[row, column]), 0.0),
        )
        for row, column in _closest(differing, SIMILAR_BITS, gallery, queries)
    ]


def duplicates_by_embedding(
    gallery_vectors: NDArray[np.float32],
    query_vectors: NDArray[np.float32],
    gallery: Slices,
    queries: Slices,
) -> list[DuplicatePair] | None:
    """Find slices that an extractor places much nearer to each other than it places different patients.

    The yardstick is the gallery's own: the median, over its slices, of the Euclidean distance to the nearest
    slice of another patient. Pairs at less than `CLOSE_SHARE` of it are reported, so that no unit or scale of
    an extractor matters.

    Args:
        gallery_vectors: Shape ``(g, d)``.
        query_vectors: Shape ``(q, d)``.
        gallery: The g slices.
        queries: The q slices.

    Returns:
        For each query the closest slice of every patient concerned; None where the distances say nothing: the
        gallery has one patient, the vectors are (nearly) the same, or more than `MOST_CLOSE_IN_GALLERY` of
        the gallery's own slices are as close to another patient's.
    """
    if len(gallery_vectors) != len(gallery) or len(query_vectors) != len(queries):
        raise ValueError(
            f"{len(gallery_vectors)} and {len(query_vectors)} vectors came with {len(gallery)} and "
            f"{len(queries)} slices"
        )
    stored = _patients(gallery, gallery)
    if len(np.unique(stored)) < 2:
        return None
    apart = _distances(gallery_vectors, gallery_vectors)
    apart[stored[:, None] == stored[None, :]] = np.inf
    nearest = apart.min(axis=1)
    usual = float(np.median(nearest))
    norm = float(np.sqrt((np.asarray(gallery_vectors, dtype=np.float64) ** 2).sum(axis=1).mean()))
    if not usual > _COLLAPSED * norm:
        return None
    if np.mean(nearest < CLOSE_SHARE * usual) > MOST_CLOSE_IN_GALLERY:
        return None
    shares = _distances(query_vectors, gallery_vectors) / usual
    below = float(np.nextafter(CLOSE_SHARE, 0.0))
    return [
        DuplicatePair(queries[row].slice_id, gallery[column].slice_id, "close", float(shares[row, column]))
        for row, column in _closest(shares, below, gallery, queries)
    ]


def _closest(
    distances: NDArray[np.floating], most: float, gallery: Slices, queries: Slices
) -> list[tuple[int, int]]:
    """Rows and columns of at most one pair a query and gallery patient: the nearest, the first of equals."""
    stored, asked = _patients(gallery, gallery), _patients(queries, gallery)
    rows, columns = np.nonzero((distances <= most) & (asked[:, None] != stored[None, :]))
    order = np.lexsort((columns, distances[rows, columns], stored[columns], rows))
    rows, columns = rows[order], columns[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (np.diff(rows) != 0) | (np.diff(stored[columns]) != 0)
    kept = zip(rows[first].tolist(), columns[first].tolist(), strict=True)
    return sorted(kept, key=lambda pair: (pair[0], distances[pair], pair[1]))


def _patients(slices: Slices, gallery: Slices) -> NDArray[np.int64]:
    """Numbers of the patients, those of the gallery in the order of their first slice; -1 for others."""
    numbers: dict[str, int] = {}
    for item in gallery:
        numbers.setdefault(item.patient_id, len(numbers))
    return np.array([numbers.get(item.patient_id, -1) for item in slices], dtype=np.int64)


def _distances(vectors: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances, shape ``(n, g)``, in float64, a part of the vectors' width at a time."""
    total = np.zeros((len(vectors), len(gallery)))
    for start in range(0, vectors.shape[1], _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        # Moved to the origin together: fewer digits are lost where vectors lie close.
        centre = gallery[:, part].mean(axis=0, dtype=np.float64)
        left, right = vectors[:, part] - centre, gallery[:, part] - centre
        total += (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
    return np.sqrt(np.maximum(total, 0.0))


def _coefficients(slices: Slices) -> NDArray[np.float32]:
    """Cosine coefficients 1 to 16 of each slice's thumbnail, shape ``(n, 16, 16)``."""
    found = np.empty((len(slices), HASH_SIDE, HASH_SIDE), dtype=np.float32)
    for positions in batches_of_one_side(slices, _SLICES_AT_ONCE):
        batch = stacked_squares([slices[position] for position in positions])
        side = batch.shape[1]
        basis = _basis(side)
        seen = np.clip(batch, *_WINDOW).astype(np.float32)
        # One large product instead of many small ones, whose threads would wait for each other.
        along_columns = (seen.reshape(-1, side) @ basis.T).reshape(len(batch), side, HASH_SIDE)
        found[positions] = basis @ along_columns
    return found


def _basis(side: int) -> NDArray[np.float32]:
    """Averages `side` pixels over 64 equal parts, then takes their orthonormal cosine transform (DCT-II).

    Returns:
        Shape ``(16, side)``: coefficients 1 to 16. The 0th, the mean, is left out, as Zauner does.
    """
    edges = np.linspace(0.0, side, _THUMBNAIL + 1)
    pixels = np.arange(side)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    area = shared.clip(0.0) * _THUMBNAIL / side
    frequency, place = np.arange(1, HASH_SIDE + 1), np.arange(_THUMBNAIL) + 0.5
    cosine = np.sqrt(2.0 / _THUMBNAIL) * np.cos(np.pi / _THUMBNAIL * frequency[:, None] * place[None, :])
    basis: NDArray[np.float32] = (cosine @ area).astype(np.float32)
    return basis


def _shows_nothing(coefficients: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether hardly anything varies over a thumbnail: its hash would be that of rounding errors."""
    deviation = np.sqrt((coefficients**2).sum(axis=(1, 2))) / _THUMBNAIL
    return np.asarray(deviation < _NO_STRUCTURE_HU)


def _turns(coefficients: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """The coefficients of the eight mirrored and turned views; mirroring changes the odd ones' signs."""
    signs = (-1.0) ** np.arange(1, HASH_SIDE + 1, dtype=np.float32)
    for turned in (coefficients, coefficients.transpose(0, 2, 1)):
        for rows in (np.ones_like(signs), signs):
            for columns in (np.ones_like(signs), signs):
                yield turned * rows[:, None] * columns[None, :]


def _bits(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hashes as +1 and -1, shape ``(n, 256)``: their products count the bits that agree, less the others."""
    flat = coefficients.reshape(len(coefficients), -1)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.where(above, np.float32(1.0), np.float32(-1.0))


def _identical(queries: Slices, gallery: Slices) -> Iterator[tuple[int, int]]:
    """Positions of queries and gallery slices with the very same HU, but for slices of one value."""
    samples = [[_sample(item.hu) for item in slices] for slices in (queries, gallery)]
    shared = set(samples[0]) & set(samples[1])  # few: only these are worth a whole digest
    places: dict[bytes, list[int]] = {}
    for column, item in enumerate(gallery):
        if samples[1][column] in shared and item.hu.min() < item.hu.max():
            places.setdefault(_digest(item.hu), []).append(column)
    for row, item in enumerate(queries):
        if samples[0][row] in shared:
            for column in places.get(_digest(item.hu), []):
                yield row, column


def _sample(hu: NDArray[np.int16]) -> tuple[tuple[int, ...], bytes]:
    return hu.shape, hu[::13, ::13].tobytes()


def _digest(hu: NDArray[np.int16]) -> bytes:
    return hashlib.sha256(repr(hu.shape).encode() + np.ascontiguousarray(hu).tobytes()).digest()
