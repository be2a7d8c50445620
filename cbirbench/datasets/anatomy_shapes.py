"""Shapes and textures from which the phantom's bodies are made, and the canvas they are painted on.

A shape is given by its signed distance in millimetres, approximately: negative inside, positive outside.
The body's axes are x (patient right to left), y (anterior to posterior) and z (inferior to superior), so that
x and y run along the columns and rows of the radiological view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # float32 throughout; arithmetic with a Python float keeps it, which older stubs of numpy do not know.
    Array = NDArray[np.floating[Any]]

Point = tuple[float, float, float]
"""A position in the body, or three half-axes, in millimetres: x, y, z."""
Knot = tuple[float, float, float, float]
"""A point of a tube's axis, with the tube's radius there, in millimetres: x, y, z, radius."""
Window = tuple[slice, slice]
"""Rows and columns of a slice."""

# Standard deviation of a cubic B-spline sum of independent unit normals, in three dimensions, on average.
_SPLINE_DEVIATION = 0.479**1.5


def ellipsoid(x: Array, y: Array, z: float, centre: Point, radii: Point, turn: float = 0.0) -> Array:
    """Signed distance from an ellipsoid, turned about the z axis by `turn` radians."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    if turn:
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    u, v, w = dx / radii[0], dy / radii[1], dz / radii[2]
    level = np.sqrt(u * u + v * v + w * w)
    gradient = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
    distance: Array = level * (level - 1.0) / (gradient + 1e-6)
    return distance


def squircle(
    x: Array, y: Array, centre: tuple[float, float], half: tuple[float, float], squareness: float = 0.35
) -> Array:
    """Signed distance from an ellipse with blunt corners: a cross-section of a trunk."""
    u, v = (x - centre[0]) / half[0], (y - centre[1]) / half[1]
    u *= u
    v *= v
    level = np.sqrt(np.maximum(u + v - squareness * np.minimum(u * v, 1.0), 0.0))
    distance: Array = (level - 1.0) * float(np.sqrt(half[0] * half[1]))
    return distance


def tube(x: Array, y: Array, z: float, knots: Sequence[Knot]) -> Array:
    """Signed distance from a tube along straight segments, its radius running from knot to knot."""
    nearest: Array | None = None
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(knots):
        ex, ey, ez = bx - ax, by - ay, bz - az
        px, py, pz = x - ax, y - ay, z - az
        along = np.clip((px * ex + py * ey + pz * ez) / (ex * ex + ey * ey + ez * ez), 0.0, 1.0)
        gap = np.sqrt((px - along * ex) ** 2 + (py - along * ey) ** 2 + (pz - along * ez) ** 2)
        distance = gap - (ar + along * (br - ar))
        nearest = distance if nearest is None else np.minimum(nearest, distance)
    assert nearest is not None, "a tube has two knots or more"
    return nearest


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """Union of two shapes with a fillet of about `width` mm."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    union: Array = b + share * (a - b) - width * share * (1.0 - share)
    return union


class Texture:
    """Smooth random variation through the body, of unit deviation: a function of position alone.

    Random values on a periodic lattice are joined by cubic B-splines, so any slice can be had without the
    others, at any pixel size.

    Args:
        generator: Draws the lattice.
        step: Distance between lattice points in mm; structures are about twice as large.
        axis: Positions of a slice's rows, and of its columns, in mm, shape ``(n,)``.
        period: Lattice points a period.
    """

    def __init__(
        self, generator: np.random.Generator, step: float, axis: NDArray[np.floating[Any]], period: int = 24
    ) -> None:
        self._step, self._period = step, period
        self._lattice = generator.standard_normal((period, period, period), dtype=np.float32)
        self._weights = np.zeros((len(axis), period), dtype=np.float32)
        rows = np.arange(len(axis))
        for column, weight in _spline_weights(axis / step, period):
            self._weights[rows, column] += weight.astype(np.float32)

    def at(self, z: float, stride: int = 1) -> Array:
        """The variation in the slice at `z` mm, at every `stride`-th row and column."""
        plane = np.zeros((self._period, self._period), dtype=np.float32)
        for level, weight in _spline_weights(np.array([z / self._step]), self._period):
            plane += np.float32(weight[0]) * self._lattice[level[0]]
        weights = self._weights[::stride]
        values: Array = weights @ plane @ weights.T
        values /= np.float32(_SPLINE_DEVIATION)
        return values


def _spline_weights(
    position: NDArray[np.floating[Any]], period: int
) -> list[tuple[NDArray[np.int64], NDArray[np.floating[Any]]]]:
    """The four lattice indices of a cubic B-spline at each position, with their weights."""
    whole = np.floor(position).astype(np.int64)
    t = position - whole
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return [
        ((whole + shift) % period, weight / 6) for shift, weight in zip((-1, 0, 1, 2), weights, strict=True)
    ]


@dataclass(frozen=True)
class Grain:
    """Textures of one slice, each of unit deviation, shape ``(n, n)``."""

    coarse: Array
    middle: Array
    fine: Array


@dataclass(frozen=True)
class Pose:
    """How a body lies in the scanner: scaled, turned about z, then shifted.

    Attributes:
        scale: Size against the reference body, along x, y and z.
        turn: Angle about z, in radians.
        shift: Offset of the body's axis in mm, along x and y, at z = 0.
        lean: Further offset along x and y for each mm of z.
    """

    scale: Point
    turn: float
    shift: tuple[float, float]
    lean: tuple[float, float]

    def origin(self, z: float) -> tuple[float, float]:
        """Where the body's axis meets the slice at body height `z`, in scanner mm."""
        return self.shift[0] + self.lean[0] * z, self.shift[1] + self.lean[1] * z

    def to_body(self, u: Array, v: Array, z: float) -> tuple[Array, Array]:
        """From scanner mm (columns u, rows v) to the body's x and y."""
        (du, dv), cos, sin = self.origin(z), float(np.cos(self.turn)), float(np.sin(self.turn))
        x = (cos * (u - du) + sin * (v - dv)) / self.scale[0]
        y = (cos * (v - dv) - sin * (u - du)) / self.scale[1]
        return x, y

    def to_scanner(self, x: float, y: float, z: float) -> tuple[float, float]:
        """From the body's x and y to scanner mm (column u, row v)."""
        (du, dv), cos, sin = self.origin(z), float(np.cos(self.turn)), float(np.sin(self.turn))
        a, b = x * self.scale[0], y * self.scale[1]
        return cos * a - sin * b + du, sin * a + cos * b + dv


LIVER, TUMOUR, KIDNEY, SPLEEN, SPINE, RIB = 1, 2, 3, 4, 5, 6
"""The mask's values; the first two are those of the Decathlon's liver task."""

WARP_MM = 14.0
"""Most by which the warp displaces a point; windows are this much larger than the shape they hold."""


class Canvas:
    """One slice while it is painted.

    Args:
        x: The body's x at each pixel, shape ``(n, n)``, float32, warped.
        y: The body's y, same shape.
        z: The body's z of the slice.
        pose: How the body lies, to find a shape's pixels.
        pixel_mm: Pixel size.
        edge_mm: Width of the blurred rim of shapes (partial volume).

    Attributes:
        hu: What was painted so far.
        structures: The structure that was painted last at each pixel, uint8; 0 where it has no value.
    """

    def __init__(self, x: Array, y: Array, z: float, pose: Pose, pixel_mm: float, edge_mm: float) -> None:
        self.x, self.y, self.z = x, y, z
        self.hu: Array = np.full(x.shape, -1000.0, dtype=np.float32)
        self.structures = np.zeros(x.shape, dtype=np.uint8)
        self._pose, self._pixel, self._edge = pose, pixel_mm, edge_mm

    def window(self, centre: tuple[float, float], radius: float) -> Window:
        """The pixels that a shape within `radius` mm of `centre` can touch."""
        u, v = self._pose.to_scanner(*centre, self.z)
        reach = radius * max(self._pose.scale[:2]) + WARP_MM + self._edge
        side = self.hu.shape[0]
        middle = (side - 1) / 2

        def span(position: float) -> slice:
            low = int(np.floor((position - reach) / self._pixel + middle))
            high = int(np.ceil((position + reach) / self._pixel + middle)) + 1
            return slice(min(max(low, 0), side), min(max(high, 0), side))

        return span(v), span(u)

    def paint(
        self, distance: Array, value: Array | float, window: Window = np.s_[:, :], structure: int = 0
    ) -> None:
        """Lay a shape of HU `value` over what is there; `distance` and an array `value` fit the window.

        The pixels it covers by half or more become `structure`'s, whatever they were.
        """
        cover = np.clip(0.5 - distance / self._edge, 0.0, 1.0)
        target = self.hu[window]
        target += cover * (value - target)
        self.structures[window][distance < 0.0] = structure

    def blob(
        self, centre: Point, radii: Point, value: float, turn: float = 0.0, limit: Array | None = None
    ) -> None:
        """Paint an ellipsoid; `limit` is a shape, on the whole slice, that it does not leave."""
        if abs(self.z - centre[2]) > radii[2] + self._edge:
            return
        window = self.window(centre[:2], max(radii[:2]))
        distance = ellipsoid(self.x[window], self.y[window], self.z, centre, radii, turn)
        if limit is not None:
            distance = np.maximum(distance, limit[window])
        self.paint(distance, value, window)

    def tube(self, knots: Sequence[Knot], value: float, limit: Array | None = None) -> None:
        """Paint a tube, segment by segment."""
        for a, b in pairwise(knots):
            found = self.tube_part(a, b)
            if found is not None:
                distance, window = found
                if limit is not None:
                    distance = np.maximum(distance, limit[window])
                self.paint(distance, value, window)

    def tube_part(self, a: Knot, b: Knot) -> tuple[Array, Window] | None:
        """Distance from one segment of a tube in the pixels it can touch; None where it misses the slice."""
        reach = max(a[3], b[3]) + self._edge
        if not min(a[2], b[2]) - reach < self.z < max(a[2], b[2]) + reach:
            return None
        # The part of the axis within reach of this slice bounds the window.
        rise = b[2] - a[2]
        ends = (0.0, 1.0)
        if abs(rise) > 1e-3:
            low, high = sorted(((self.z - reach - a[2]) / rise, (self.z + reach - a[2]) / rise))
            ends = (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0))
        start, stop = ((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for t in ends)
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
        length = float(np.hypot(stop[0] - start[0], stop[1] - start[1]))
        window = self.window(middle, length / 2 + reach)
        return tube(self.x[window], self.y[window], self.z, (a, b)), window

    def hollow(
        self, distance: Array, window: Window, wall: float, wall_mm: float, content: Array | float, air: float
    ) -> None:
        """Paint a hollow organ: its wall, its content, and gas in front of the level y = `air`."""
        self.paint(distance, wall, window)
        inside = distance + wall_mm
        self.paint(inside, content, window)
        self.paint(np.maximum(inside, self.y[window] - air), -900.0, window)
