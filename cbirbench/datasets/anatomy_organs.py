"""Paints one slice of a body: trunk, skeleton, belly, liver, chest. What is painted later lies on top."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.datasets.anatomy import AORTA, CAVA, Body, Section, near
from cbirbench.datasets.anatomy_frame import paint_skeleton, paint_trunk
from cbirbench.datasets.anatomy_shapes import (
    KIDNEY,
    SPLEEN,
    Canvas,
    Grain,
    Knot,
    Point,
    ellipsoid,
    smooth_min,
)

if TYPE_CHECKING:
    from cbirbench.datasets.anatomy_shapes import Array


@dataclass(frozen=True)
class Loop:
    """A piece of small bowel."""

    centre: Point
    radii: Point
    turn: float
    content: float
    air: float


@dataclass(frozen=True)
class Gut:
    """Stomach and bowel, which differ from patient to patient in place and filling."""

    loops: tuple[Loop, ...]
    stomach: tuple[tuple[Point, Point], ...]
    stomach_content: float
    stomach_air: float
    colon: tuple[Knot, ...]
    colon_content: float
    colon_air: float

    @staticmethod
    def draw(body: Body, seed: int, index: int) -> Gut:
        """Draw the gut of a body, from its seed and number alone."""
        draw = np.random.default_rng([seed, index, 2])
        lift = body.lift
        oral = bool(draw.random() < 0.22)  # oral contrast
        loops = []
        for _ in range(int(draw.integers(110, 170))):
            z = near(draw, -150, 115)
            centre = (near(draw, 0, 86), near(draw, -34, 44), z)
            radius = near(draw, 14, 4)
            radii = (
                radius * near(draw, 1.3, 0.5),
                radius * near(draw, 0.95, 0.25),
                radius * near(draw, 1.3, 0.4),
            )
            content = near(draw, 250, 80) if oral and draw.random() < 0.6 else near(draw, 35, 25)
            air = centre[1] + radius * near(draw, -0.3, 0.5) if draw.random() < 0.22 else -500.0
            loops.append(Loop(centre, radii, near(draw, 0, 1.5), content, air))
        fill = near(draw, 1.0, 0.22)
        stomach = (
            ((near(draw, 58, 8), near(draw, -8, 8), 46 + lift), (34 * fill, 40 * fill, 36)),
            ((near(draw, 50, 8), near(draw, -44, 6), 10 + lift), (34 * fill, 28 * fill, 42)),
            ((near(draw, 12, 10), near(draw, -52, 6), near(draw, -22, 14) + lift), (38, 17 * fill, 18)),
        )
        sag = near(draw, 35, 35)
        flexure, spread = near(draw, -75, 15) + 0.7 * lift, near(draw, 0, 6)
        colon = (
            (-84 + spread, 8, -205, 24),
            (-92 + spread, 4, -130, 23),
            (-88 + spread, -10, flexure, 21),
            (-50, -55, flexure - 10, 20),
            (0, -64, flexure - sag, 19),
            (50, -58, flexure + 20 - sag / 2, 19),
            (88, -20, -5 + 0.5 * lift, 18),
            (97, 20, -50, 16),
            (97, 16, -170, 15),
            (62, -10, -215, 16),
            (10, near(draw, 0, 25), -240, 17),
            (0, 42, -275, 18),
            (0, 48, -345, 15),
        )
        return Gut(
            loops=tuple(loops),
            stomach=stomach,
            stomach_content=float(draw.choice([12.0, 45.0, 60.0, 220.0], p=[0.35, 0.3, 0.2, 0.15])),
            stomach_air=near(draw, -48, 26),
            colon=colon,
            colon_content=near(draw, 20, 45),
            colon_air=near(draw, -12, 14),
        )


def paint_body(canvas: Canvas, body: Body, gut: Gut, grain: Grain, section: Section) -> None:
    """Paint everything in one slice.

    Args:
        canvas: The slice, filled with air.
        body: Whose body it is.
        gut: That body's stomach and bowel.
        grain: Textures of the slice.
        section: The body's shapes in the slice.
    """
    cavity = section.cavity
    paint_trunk(canvas, body, grain, cavity)
    paint_skeleton(canvas, body, grain, cavity)
    _belly(canvas, body, gut, grain, cavity)
    if section.liver is not None:
        _liver(canvas, body, grain, section.liver, section.tumour)
    if canvas.z > body.lift - 60.0:
        _chest(canvas, body, grain, section)


def _belly(canvas: Canvas, body: Body, gut: Gut, grain: Grain, cavity: Array) -> None:
    """Bowel, stomach, pancreas, spleen, kidneys, bladder and the large vessels."""
    x, y, z, tissue, lift = canvas.x, canvas.y, canvas.z, body.tissue, body.lift
    room = cavity + 5.0
    for loop in gut.loops:
        if abs(z - loop.centre[2]) < loop.radii[2]:
            window = canvas.window(loop.centre[:2], max(loop.radii[:2]))
            shape = ellipsoid(x[window], y[window], z, loop.centre, loop.radii, loop.turn)
            shape = np.maximum(shape, room[window])
            content = loop.content + 10.0 * grain.fine[window]
            canvas.hollow(shape, window, tissue.wall + 15.0, 2.6, content, loop.air)
    stool = gut.colon_content + 40.0 * grain.fine - 420.0 * np.maximum(grain.fine - 0.9, 0.0)
    for a, b in pairwise(gut.colon):
        found = canvas.tube_part(a, b)
        if found is not None:
            distance, window = found
            distance = np.maximum(distance + 2.5 * grain.middle[window], room[window])
            air = min(a[1], b[1]) + (gut.colon_air if z < -20.0 else 0.0)
            canvas.hollow(distance, window, tissue.wall, 2.6, np.maximum(stool[window], -850.0), air)
    for start, end in (
        ((-16.0, -8.0, -38.0 + lift, 13.0), (-8.0, -24.0, -5.0 + lift, 10.0)),
        ((-8.0, -24.0, -5.0 + lift, 10.0), (30.0, -14.0, 10.0 + lift, 10.0)),
        ((30.0, -14.0, 10.0 + lift, 10.0), (72.0, 14.0, 26.0 + lift, 9.0)),
    ):
        found = canvas.tube_part(start, end)
        if found is not None:
            distance, window = found
            canvas.paint(distance + 2.0 * grain.fine[window], tissue.pancreas - 8.0, window)
    if -45.0 < z - lift < 90.0:
        window = canvas.window((40.0, -28.0), 85.0)
        parts = [ellipsoid(x[window], y[window], z, (c[0], c[1], c[2]), r) for c, r in gut.stomach]
        shape = smooth_min(smooth_min(parts[0], parts[1], 12.0), parts[2], 12.0)
        shape = np.maximum(shape, room[window])
        texture = gut.stomach_content + (25.0 if gut.stomach_content > 40.0 else 3.0) * grain.fine[window]
        canvas.hollow(shape, window, tissue.wall + 10.0, 4.0, texture, gut.stomach_air)
    if body.spleen_present and -40.0 < z - lift < 110.0:
        size = body.spleen_size
        window = canvas.window((86.0, 28.0), 62.0)
        shape = ellipsoid(
            x[window], y[window], z, (88, 26, 32 + lift), (34 * size, 50 * size, 52 * size), 0.2
        )
        hollow = ellipsoid(x[window], y[window], z, (52.0, 8.0, 30 + lift), (40.0, 44.0, 70.0))
        shape = np.maximum(np.maximum(shape, -hollow), room[window])
        canvas.paint(shape, tissue.spleen + 2.0 * grain.middle[window], window, SPLEEN)
    for (centre, radii, turn), present in zip(body.kidneys, body.kidneys_present, strict=True):
        if present and abs(z - centre[2]) < radii[2]:
            _kidney(canvas, body, grain, centre, radii, turn)
    if z < -235.0:
        canvas.blob((0.0, -14.0, -290.0), (44.0, 36.0, 38.0), tissue.muscle)
        canvas.blob((0.0, -14.0, -290.0), (41.0, 33.0, 35.0), 6.0)
        canvas.blob((0.0, 20.0, -325.0), (24.0, 17.0, 40.0), tissue.muscle + 15.0)
    canvas.tube(CAVA, tissue.vein)
    canvas.tube(AORTA, tissue.artery)
    canvas.tube(((2.0, 6.0, -5.0, 4.5), (0.0, -14.0, -90.0, 4.0), (-6, -30, -150, 3.0)), tissue.artery)
    canvas.tube(((-9.0, 0.0, -5.0, 6.0), (-9.0, -16.0, -90.0, 5.0), (-14, -30, -150, 3.5)), tissue.vein)
    canvas.tube(((-9.0, -4.0, -2.0 + lift, 7.0), (-34.0, -6.0, 14.0 + lift, 7.5)), tissue.hepatic)
    canvas.tube(((-9.0, -6.0, 2.0 + lift, 4.5), (70.0, 16.0, 28.0 + lift, 4.0)), tissue.vein)
    for side in (-1.0, 1.0):
        canvas.tube(
            (
                (4.0, 20.0, -112.0, 7.0),
                (side * 34, 26, -190, 6.0),
                (side * 58, -30, -280, 5.5),
                (side * 62, -60, -345, 5.0),
            ),
            tissue.artery,
        )
        canvas.tube(
            (
                (-14.0, 25.0, -115.0, 8.0),
                (side * 34, 36, -190, 7.0),
                (side * 54, -16, -280, 6.5),
                (side * 54, -52, -345, 6.0),
            ),
            tissue.vein,
        )


def _kidney(canvas: Canvas, body: Body, grain: Grain, centre: Point, radii: Point, turn: float) -> None:
    """A kidney: cortex, pyramids, and the fat and vessels of its sinus, which opens to the spine."""
    x, y, z, tissue = canvas.x, canvas.y, canvas.z, body.tissue
    window = canvas.window(centre[:2], max(radii[:2]))
    wx, wy = x[window], y[window]
    inward = -float(np.sign(centre[0])) * 0.45 * radii[0]
    hilum = (centre[0] + inward, centre[1] - 4.0, centre[2])
    shape = ellipsoid(wx, wy, z, centre, radii, turn)
    sinus = ellipsoid(wx, wy, z, hilum, (0.62 * radii[0], 0.42 * radii[1], 0.5 * radii[2]), turn)
    canvas.paint(shape, tissue.cortex, window, KIDNEY)
    pyramids = np.maximum(shape + 7.0, 6.0 * grain.fine[window] - 4.0)
    canvas.paint(pyramids, tissue.medulla, window, KIDNEY)
    canvas.paint(np.maximum(sinus, shape - 2.0), tissue.fat + 30.0, window)
    canvas.paint(sinus + 6.0, 0.5 * tissue.medulla, window)
    if abs(z - centre[2]) < 12.0:
        canvas.tube(((*hilum, 4.0), (centre[0] * 0.35, 16.0, centre[2] + 4.0, 4.5)), tissue.vein)


def _liver(canvas: Canvas, body: Body, grain: Grain, shape: Array, tumour: Array | None) -> None:
    """Liver tissue, its vessels and tumours, and the gallbladder."""
    tissue, lift = body.tissue, body.lift
    parenchyma = tissue.liver + 2.2 * grain.coarse + 3.0 * grain.middle
    # Small vessels, cut across, as spots of a fine texture.
    parenchyma += (tissue.hepatic - tissue.liver) * np.clip(2.0 * (grain.fine - 1.75), 0.0, 0.85)
    canvas.paint(shape, parenchyma)
    for knots in (
        ((-34.0, -6.0, 14.0, 7.0), (-78.0, 4.0, 20.0, 4.5), (-104.0, -8.0, 34.0, 2.5)),
        ((-60.0, 0.0, 17.0, 4.5), (-84.0, 30.0, 2.0, 3.5), (-96.0, 20.0, -40.0, 2.0)),
        ((-34.0, -6.0, 14.0, 5.5), (-24.0, -36.0, 26.0, 4.5), (18.0, -52.0, 34.0, 2.5)),
        ((-20.0, 2.0, 66.0, 7.5), (-70.0, -14.0, 50.0, 5.0), (-88.0, -44.0, 14.0, 2.5)),
        ((-20.0, 2.0, 66.0, 7.0), (-80.0, 20.0, 44.0, 4.5), (-100.0, 30.0, 14.0, 2.5)),
        ((-20.0, 2.0, 66.0, 6.0), (-28.0, -34.0, 54.0, 4.5), (8.0, -54.0, 40.0, 2.5)),
    ):
        lifted: tuple[Knot, ...] = tuple((kx, ky, kz + lift, kr) for kx, ky, kz, kr in knots)
        canvas.tube(lifted, tissue.hepatic, limit=shape)
    if tumour is not None:
        core = tissue.tumour + 5.0 * grain.middle + np.clip(0.8 * (tumour + 6.0), -14.0, 10.0)
        canvas.paint(tumour, core)
    canvas.blob(body.gallbladder, body.gallbladder_radii, 65.0)
    inner = tuple(radius - 2.0 for radius in body.gallbladder_radii)
    canvas.blob(body.gallbladder, (inner[0], inner[1], inner[2]), 9.0)


def _chest(canvas: Canvas, body: Body, grain: Grain, section: Section) -> None:
    """Lungs, heart, and the vessels and airways between them."""
    y, z, tissue, lift = canvas.y, canvas.z, body.tissue, body.lift
    cavity, lungs = section.cavity, section.lungs
    air = -860.0 + 25.0 * grain.coarse + 0.45 * (y + 60.0)
    spots = np.clip(6.0 * (grain.fine - 1.9), 0.0, 1.0)
    canvas.paint(lungs, air + (30.0 - air) * spots)
    middle = np.maximum(-lungs, cavity + 3.0)
    above = np.maximum(0.6 * (section.dome - z), cavity + 4.0)
    muscle = tissue.muscle + 35.0 if tissue.artery > 60.0 else tissue.muscle - 10.0
    heart = (20.0, -34.0, 116.0 + lift)
    if abs(z - heart[2]) < 60.0:
        canvas.paint(np.maximum(middle, above), tissue.fat + 20.0 * np.maximum(grain.middle, 0.0))
        canvas.blob(heart, (54.0, 42.0, 50.0), muscle, turn=0.6, limit=above)
        canvas.blob((40.0, -28.0, 110.0 + lift), (26.0, 18.0, 32.0), tissue.artery, turn=0.6, limit=above)
        canvas.blob((8.0, -52.0, 112.0 + lift), (30.0, 14.0, 34.0), tissue.vein, turn=0.5, limit=above)
        canvas.blob((-18.0, -24.0, 122.0 + lift), (18.0, 22.0, 30.0), tissue.vein, limit=above)
        canvas.blob((16.0, 0.0, 134.0 + lift), (30.0, 14.0, 20.0), tissue.artery, limit=above)
    top = 150.0 + lift
    canvas.tube(((-4.0, -34.0, top - 10.0, 15.0), (-6.0, -34.0, 225.0, 15.0)), tissue.artery)
    canvas.tube(((-28.0, -26.0, top - 10.0, 9.0), (-30.0, -24.0, 300.0, 9.0)), tissue.vein)
    canvas.tube(
        ((18.0, -42.0, top, 14.0), (14.0, -28.0, 195.0, 13.0), (-40.0, -6.0, 190.0, 8.0)), tissue.vein
    )
    canvas.tube(((14.0, -28.0, 195.0, 11.0), (46.0, 6.0, 192.0, 8.0)), tissue.vein)
    canvas.tube(((-6.0, -34.0, 225.0, 15.0), (20.0, 30.0, 228.0, 13.0)), tissue.artery)
    canvas.tube(CAVA[:2], tissue.vein)
    canvas.tube(AORTA[:2], tissue.artery)
    canvas.tube(((4.0, 14.0, 60.0 + lift, 7.0), (2.0, 20.0, 300.0, 7.0)), tissue.wall)
    for a, b in (
        ((0.0, 6.0, 300.0, 9.0), (0.0, 8.0, 198.0, 9.0)),
        ((0.0, 8.0, 198.0, 7.0), (-48.0, 14.0, 150.0, 5.0)),
        ((0.0, 8.0, 198.0, 7.0), (48.0, 14.0, 150.0, 5.0)),
    ):
        canvas.tube(((a[0], a[1], a[2], a[3] + 2.0), (b[0], b[1], b[2], b[3] + 2.0)), 40.0)
        canvas.tube((a, b), -980.0)
