"""The phantom's bodies: what differs between patients, the shape of the trunk, and the liver.

A body is drawn from a seed and a number alone. Lengths are millimetres in a reference body of about 170 cm,
to which the pose adds size; z = 0 lies at the upper lumbar spine, the right diaphragm near z = 85, the iliac
crests near z = -150. The numbers are rough adult anatomy, chosen by eye; no patient's scan went into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.datasets.anatomy_shapes import Knot, Point, Pose, ellipsoid, smooth_min, squircle, tube

if TYPE_CHECKING:
    from cbirbench.datasets.anatomy_shapes import Array

# The trunk along z: half-axes of the cavity, width of the muscle beside it, and how thick the fat lies.
_LEVELS = (-345.0, -300.0, -230.0, -160.0, -100.0, -40.0, 20.0, 80.0, 160.0, 230.0, 300.0)
_CAVITY_X = (92.0, 100.0, 110.0, 119.0, 118.0, 121.0, 127.0, 128.0, 121.0, 104.0, 76.0)
_CAVITY_Y = (72.0, 76.0, 80.0, 80.0, 78.0, 80.0, 85.0, 87.0, 82.0, 70.0, 54.0)
_MUSCLE_X = (62.0, 56.0, 38.0, 20.0, 13.0, 11.0, 11.0, 12.0, 18.0, 34.0, 52.0)
_FAT = (1.3, 1.3, 1.3, 1.25, 1.15, 1.0, 0.8, 0.65, 0.6, 0.6, 0.6)

CAVITY_CENTRE = (0.0, -8.0)
AORTA: tuple[Knot, ...] = (
    (20.0, 32.0, 215.0, 12.0),
    (15.0, 26.0, 80.0, 11.0),
    (9.0, 20.0, 0.0, 9.5),
    (4.0, 20.0, -112.0, 8.5),
)
CAVA: tuple[Knot, ...] = (
    (-18.0, 2.0, 105.0, 13.0),
    (-20.0, 14.0, 70.0, 13.0),
    (-20.0, 20.0, 0.0, 11.0),
    (-16.0, 24.0, -115.0, 10.0),
)


def near(generator: np.random.Generator, mean: float, spread: float) -> float:
    """A number drawn evenly within `spread` of `mean`."""
    return float(generator.uniform(mean - spread, mean + spread))


@dataclass(frozen=True)
class Tissue:
    """HU of the tissues that depend on the patient and on the contrast phase."""

    liver: float
    tumour: float
    spleen: float
    pancreas: float
    artery: float
    vein: float
    hepatic: float
    cortex: float
    medulla: float
    muscle: float
    fat: float
    wall: float
    marrow: float
    bone: float

    @staticmethod
    def draw(generator: np.random.Generator) -> Tissue:
        """Draw a phase (mostly portal-venous, some arterial or unenhanced) and the patient's own values."""
        phase = generator.choice(["portal", "arterial", "plain"], p=[0.8, 0.1, 0.1])
        if phase == "portal":
            liver, spleen, artery, vein = near(generator, 110, 17), near(generator, 118, 12), 150.0, 155.0
            hepatic, cortex, medulla, organ = liver + near(generator, 38, 14), 190.0, 170.0, 95.0
        elif phase == "arterial":
            liver, spleen, artery, vein = near(generator, 78, 10), near(generator, 120, 15), 300.0, 95.0
            hepatic, cortex, medulla, organ = liver + near(generator, 10, 8), 200.0, 95.0, 105.0
        else:
            liver, spleen, artery, vein = near(generator, 58, 7), near(generator, 48, 4), 42.0, 40.0
            hepatic, cortex, medulla, organ = 40.0, 33.0, 31.0, 40.0
        if generator.random() < 0.12:  # a fatty liver
            drop = near(generator, 32, 12)
            liver, hepatic = liver - drop, hepatic - drop / 3
        gain = near(generator, 1.0, 0.15)
        return Tissue(
            liver=liver,
            tumour=liver - near(generator, 42, 18),
            spleen=spleen,
            pancreas=organ * gain,
            artery=artery * gain,
            vein=vein * gain,
            hepatic=hepatic,
            cortex=cortex * gain,
            medulla=medulla * gain,
            muscle=near(generator, 58, 9),
            fat=near(generator, -102, 8),
            wall=near(generator, 70, 22),
            marrow=near(generator, 170, 70),
            bone=near(generator, 520, 160),
        )


class Body:
    """One patient: size, pose, tissues, and where the organs lie.

    Args:
        seed: The phantom's seed.
        index: The body's number.
    """

    def __init__(self, seed: int, index: int) -> None:
        draw = np.random.default_rng([seed, index, 1])
        self.tissue = Tissue.draw(draw)
        size = near(draw, 1.0, 0.12)
        self.pose = Pose(
            scale=(size * near(draw, 1.0, 0.06), size * near(draw, 1.1, 0.08), near(draw, 1.0, 0.1)),
            turn=float(np.clip(draw.normal(0.0, 0.07), -0.2, 0.2)),
            shift=(near(draw, 0, 16), near(draw, -4, 12)),
            lean=(near(draw, 0, 0.03), near(draw, 0, 0.03)),
        )
        self.fat_mm = float(draw.gamma(4.0, 3.2)) + 5.0
        self.belly = near(draw, 0.3, 0.5) * min(self.fat_mm, 30.0)
        self.sinew = near(draw, 1.0, 0.25)  # muscle bulk
        self.arms = bool(draw.random() < 0.07)
        self.lift = near(draw, 0, 20)  # the diaphragm, and with it the upper organs: build and breath
        self.dome_right = near(draw, 86, 7) + self.lift
        self.dome_left = near(draw, 72, 10) + self.lift
        self._liver_parts = self._draw_liver(draw)
        self.gallbladder = self._lifted(near(draw, -50, 8), near(draw, -42, 10), near(draw, -40, 10))
        self.gallbladder_radii = (near(draw, 14, 5), near(draw, 18, 6), near(draw, 22, 6))
        self.kidneys = tuple(
            (
                (side * near(draw, 60, 5), near(draw, 43, 5), near(draw, level, 16) + 0.5 * self.lift),
                (near(draw, 26, 3), near(draw, 24, 3), near(draw, 55, 6)),
                side * near(draw, 0.5, 0.25),
            )
            for side, level in ((-1, -32.0), (1, -18.0))
        )
        self.kidneys_present = tuple(bool(draw.random() > 0.04) for _ in range(2))
        self.spleen_present = bool(draw.random() > 0.05)
        self.spleen_size = near(draw, 1.0, 0.25)
        self.tumours = self._draw_tumours(draw)

    def _lifted(self, x: float, y: float, z: float) -> Point:
        return (x, y, z + self.lift)

    def _draw_liver(self, draw: np.random.Generator) -> list[tuple[Point, Point, float]]:
        """Lobes as ellipsoids: centre, half-axes, turn. Sizes vary, so that livers end at many levels."""
        volume, left, reach = near(draw, 1.0, 0.09), near(draw, 1.0, 0.3), near(draw, 0, 30)
        right = (74 * volume, near(draw, 90, 6) * volume, near(draw, 92, 10) * volume)
        return [
            (self._lifted(-64, near(draw, -6, 5), near(draw, 12, 8)), right, near(draw, 0.05, 0.12)),
            (self._lifted(-86, near(draw, 2, 8), -50 - reach), (30, near(draw, 52, 8), 46 + reach / 2), 0.0),
            (
                self._lifted(near(draw, -2, 10), near(draw, -50, 6), near(draw, 30, 10)),
                (near(draw, 62, 8) * left, near(draw, 34, 6), near(draw, 44, 8) * left),
                near(draw, -0.1, 0.15),
            ),
            (self._lifted(-14, near(draw, -6, 5), near(draw, 30, 8)), (22, 22, 26), 0.0),
        ]

    def _draw_tumours(self, draw: np.random.Generator) -> list[tuple[Point, Point, float]]:
        """Up to seven tumours within the liver; about a quarter of the livers have none."""
        wanted = int(draw.choice([0, 1, 2, 3, 5, 7], p=[0.25, 0.2, 0.2, 0.15, 0.1, 0.1]))
        found: list[tuple[Point, Point, float]] = []
        for _ in range(60):
            if len(found) == wanted:
                break
            centre = self._lifted(near(draw, -50, 70), near(draw, -10, 80), near(draw, 5, 80))
            radius = float(np.clip(draw.lognormal(2.4, 0.5), 4.0, 34.0))
            x, y = (np.full((1, 1), value, dtype=np.float32) for value in centre[:2])
            liver = self.liver(x, y, centre[2], self.cavity(x, y, centre[2]), self.dome(x, y))
            if float(liver[0, 0]) < -0.5 * radius:
                stretch = [near(draw, 1.0, 0.2) for _ in range(3)]
                radii = (radius * stretch[0], radius * stretch[1], radius * stretch[2])
                found.append((centre, radii, near(draw, 0, 0.8)))
        return found

    def cavity(self, x: Array, y: Array, z: float) -> Array:
        """Inner surface of the trunk's wall: the chest, abdomen and pelvis."""
        return squircle(x, y, CAVITY_CENTRE, self._half(z))

    def _half(self, z: float) -> tuple[float, float]:
        return float(np.interp(z, _LEVELS, _CAVITY_X)), float(np.interp(z, _LEVELS, _CAVITY_Y))

    def muscle(self, x: Array, y: Array, z: float) -> Array:
        """Outer surface of the trunk's muscles."""
        (a, b), side = self._half(z), float(np.interp(z, _LEVELS, _MUSCLE_X)) * self.sinew
        return squircle(x, y, (0.0, CAVITY_CENTRE[1] + 9.0), (a + side, b + 17.0))

    def skin_half(self, z: float) -> tuple[float, float]:
        """Half-axes of the skin's outline."""
        (a, b), side = self._half(z), float(np.interp(z, _LEVELS, _MUSCLE_X)) * self.sinew
        fat = self.fat_mm * float(np.interp(z, _LEVELS, _FAT))
        return a + side + fat, b + 19.0 + 0.8 * fat

    def skin(self, x: Array, y: Array, z: float) -> Array:
        """Outline of the body; the belly bulges forward."""
        half = self.skin_half(z)
        bulge = self.belly * float(np.exp(-(((z + 110.0) / 110.0) ** 2)))
        front = np.where(y < 0.0, y * (half[1] / (half[1] + max(bulge, 0.0))), y)
        return squircle(x, front, (0.0, CAVITY_CENTRE[1] + 9.0), half, 0.25)

    def dome(self, x: Array, y: Array) -> Array:
        """Height of the diaphragm: two domes, falling to the ribs and further at the back."""

        def half(centre: float, top: float) -> Array:
            slope = ((x - centre) / 74.0) ** 2 * 46.0 + ((y + 16.0) / 78.0) ** 2 * 40.0
            height: Array = top - slope - 26.0 * np.maximum((y - 10.0) / 60.0, 0.0) ** 2
            return height

        return -smooth_min(-half(-60.0, self.dome_right), -half(62.0, self.dome_left), 18.0)

    def lungs(self, x: Array, y: Array, z: float, cavity: Array, dome: Array) -> Array:
        """Both lungs: above the diaphragm, beside the mediastinum."""
        heart = 26.0 * float(np.exp(-(((z - self.lift - 110.0) / 60.0) ** 2)))
        middle = squircle(x, y, (4.0 + 0.5 * heart, -8.0), (32.0 + heart, 74.0 + heart / 3), 0.0)
        spine = squircle(x, y, (0.0, 50.0), (28.0, 30.0), 0.0)
        outside = np.maximum(cavity + 4.0, 0.6 * (dome - z))
        lungs: Array = np.maximum(outside, -np.minimum(middle, spine))
        return lungs

    @property
    def liver_range(self) -> tuple[float, float]:
        """Heights that hold the liver; it may end earlier."""
        low = min(centre[2] - radii[2] for centre, radii, _ in self._liver_parts)
        return low - 6.0, self.dome_right + 2.0

    def liver(self, x: Array, y: Array, z: float, cavity: Array, dome: Array) -> Array:
        """The liver: four lobes grown together, shaped by diaphragm, ribs and its neighbours."""
        whole: Array | None = None
        for centre, radii, turn in self._liver_parts:
            lobe = ellipsoid(x, y, z, centre, radii, turn)
            whole = lobe if whole is None else smooth_min(whole, lobe, 14.0)
        assert whole is not None
        whole = np.maximum(whole, cavity + 4.0)
        whole = np.maximum(whole, 0.6 * (z - dome) + 2.0)
        below = float(np.clip((25.0 + self.lift - z) / 45.0, 0.0, 1.0))
        cuts = [
            ellipsoid(x, y, z, self.gallbladder, self.gallbladder_radii) - 1.0,
            tube(x, y, z, CAVA) - 1.5,
            tube(x, y, z, AORTA) - 6.0,
            # The spine and, below the hilum, the retroperitoneum beside it.
            squircle(x, y, (0.0, 52.0), (34.0 + 22.0 * below, 31.0 + 4.0 * below), 0.0),
        ]
        (centre, radii, turn), present = self.kidneys[0], self.kidneys_present[0]
        if present:
            cuts.append(ellipsoid(x, y, z, centre, radii, turn) - 5.0)
        # The fissure of the falciform ligament, a wedge open to the front and below.
        fissure = np.abs(x + 26.0 + 0.2 * (y + 60.0)) - 0.5 - 0.08 * np.maximum(20.0 + self.lift - z, 0.0)
        cuts.append(np.maximum(fissure, y + 48.0 + 0.4 * (z - self.lift)))
        for cut in cuts:
            whole = np.maximum(whole, -cut)
        return whole

    def tumour(self, x: Array, y: Array, z: float) -> Array:
        """The liver's tumours; far outside where it has none."""
        nearest: Array = np.full_like(x, 999.0)
        for centre, radii, turn in self.tumours:
            if abs(z - centre[2]) < radii[2]:
                nearest = np.minimum(nearest, ellipsoid(x, y, z, centre, radii, turn))
        return nearest


@dataclass(frozen=True, eq=False)
class Section:
    """The shapes that mask and picture share, on one slice: signed distances, None where not met."""

    cavity: Array
    dome: Array
    lungs: Array
    liver: Array | None
    tumour: Array | None

    @staticmethod
    def of(body: Body, x: Array, y: Array, z: float) -> Section:
        """Cut a body at height z; x and y are the body's, at each pixel."""
        cavity, dome = body.cavity(x, y, z), body.dome(x, y)
        lungs = body.lungs(x, y, z, cavity, dome)
        low, high = body.liver_range
        if not low < z < high:
            return Section(cavity, dome, lungs, None, None)
        liver = np.maximum(body.liver(x, y, z, cavity, dome), -lungs)
        tumour = np.maximum(body.tumour(x, y, z), liver + 1.0) if body.tumours else None
        return Section(cavity, dome, lungs, liver, tumour)
