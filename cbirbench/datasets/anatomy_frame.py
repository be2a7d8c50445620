"""Paints the frame of a body in one slice: skin, fat, muscles, spine, ribs and pelvis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cbirbench.datasets.anatomy import Body
from cbirbench.datasets.anatomy_shapes import RIB, SPINE, Canvas, Grain, squircle

if TYPE_CHECKING:
    from cbirbench.datasets.anatomy_shapes import Array


def paint_trunk(canvas: Canvas, body: Body, grain: Grain, cavity: Array) -> None:
    """Skin, fat, the muscles of the wall, and the fat that fills the cavity."""
    x, y, z, tissue = canvas.x, canvas.y, canvas.z, body.tissue
    skin = body.skin(x, y, z)
    canvas.paint(skin, 10.0)
    fat = tissue.fat + 6.0 * grain.coarse + 22.0 * np.maximum(1.0 - 9.0 * np.abs(grain.middle), 0.0)
    canvas.paint(skin + 2.0, fat)
    if body.arms:
        width = body.skin_half(z)[0]
        for side in (-1.0, 1.0):
            arm = (side * (width + 46.0), 18.0 + 0.1 * z)
            canvas.blob((*arm, z), (42.0, 46.0, 50.0), tissue.fat)
            canvas.blob((*arm, z), (33.0, 37.0, 50.0), tissue.muscle)
            canvas.blob((*arm, z), (11.0, 11.0, 50.0), tissue.bone)
            canvas.blob((*arm, z), (6.0, 6.0, 50.0), 40.0)
    marbling = 70.0 * np.maximum(grain.middle - 1.3, 0.0) + 45.0 * np.maximum(
        1.0 - 7.0 * np.abs(grain.coarse), 0
    )
    muscle = tissue.muscle + 4.0 * grain.fine - np.minimum(marbling, 130.0)
    canvas.paint(np.maximum(body.muscle(x, y, z), skin + 4.0), muscle)
    for side in (-1.0, 1.0):  # the long muscles of the back, in their own sheet of fat
        centre, bulk = (side * 34.0, 76.0, z), body.sinew
        canvas.blob(centre, (29.0 * bulk, 22.0 * bulk, 50.0), tissue.fat)
        canvas.blob(centre, (27.0 * bulk, 20.0 * bulk, 50.0), tissue.muscle)
    vessels = np.maximum(1.0 - 6.0 * np.abs(grain.fine - 0.7), 0.0) * (grain.middle > 0.2)
    stranding = 100.0 * vessels + 7.0 * grain.coarse
    canvas.paint(cavity + 1.0, tissue.fat + stranding)
    if z < 30.0:
        for side in (-1.0, 1.0):  # psoas, quadratus lumborum, iliacus
            grown = float(np.clip((30.0 - z) / 150.0, 0.15, 1.0)) * body.sinew
            out = 30.0 + 0.13 * max(-z - 20.0, 0.0)
            forward = 47.0 - 0.25 * max(-z - 170.0, 0.0)
            canvas.blob((side * out, forward, z), (21.0 * grown, 23.0 * grown, 50.0), tissue.muscle)
            if z < -160.0:
                sheet = squircle(canvas.x, canvas.y, (side * 78.0, 28.0), (30.0, 40.0), 0.0)
                canvas.paint(np.maximum(sheet, np.maximum(cavity, -cavity - 15.0)), muscle)
            else:
                canvas.blob((side * 64.0, 60.0, -60.0), (20.0, 9.0, 95.0), tissue.muscle)
    canvas.blob((0.0, 26.0, 25.0), (26.0, 13.0, 55.0), tissue.muscle)  # crura of the diaphragm
    canvas.blob((0.0, 28.0, 25.0), (19.0, 10.0, 55.0), tissue.fat)


def paint_skeleton(canvas: Canvas, body: Body, grain: Grain, cavity: Array) -> None:
    """Spine, ribs, breastbone, pelvis."""
    x, y, z, tissue = canvas.x, canvas.y, canvas.z, body.tissue
    marrow = tissue.marrow + 30.0 * grain.fine
    step = (z / 34.0) % 1.0  # a vertebra and its disc
    if z > -195.0:
        window = canvas.window((0.0, 62.0), 62.0)
        wx, wy, inside = x[window], y[window], marrow[window]
        process = squircle(wx, wy, (0.0, 91.0), (4.5, 15.0 if 0.25 < step < 0.8 else 7.0), 0.0)
        arch = np.abs(squircle(wx, wy, (0.0, 72.0), (15.0, 12.0), 0.0)) - 3.0
        wings = np.maximum(np.abs(wy - 68.0 - 0.12 * np.abs(wx)) - 4.5, np.abs(wx) - 40.0)
        canvas.paint(process, tissue.bone, window, SPINE)
        if 0.3 < step < 0.62:
            canvas.paint(wings, tissue.bone * 0.75, window, SPINE)
        canvas.paint(arch, tissue.bone if step < 0.8 else 250.0, window, SPINE)
        bulk = 1.0 - 0.12 * float(np.clip(z / 250.0, -0.6, 1.0))
        trunk = squircle(wx, wy, (0.0, 48.0), (23.0 * bulk, 17.0 * bulk), 0.1)
        if step < 0.2:
            canvas.paint(trunk, 85.0, window, SPINE)
        else:
            canvas.paint(trunk, tissue.bone, window, SPINE)
            spongy = trunk + (6.0 if step < 0.28 or step > 0.93 else 2.2)
            canvas.paint(spongy, inside, window, SPINE)
        canvas.blob((0.0, 70.0, z), (10.0, 8.0, 50.0), 25.0)
    else:  # sacrum
        window = canvas.window((0.0, 66.0), 60.0)
        tail = float(np.clip((z + 330.0) / 130.0, 0.12, 1.0))
        sacrum = squircle(x[window], y[window], (0.0, 64.0), (50.0 * tail, 20.0 * tail + 5.0), 0.0)
        canvas.paint(sacrum, 0.8 * tissue.bone, window, SPINE)
        canvas.paint(sacrum + 3.0, marrow[window], window, SPINE)
        canvas.blob((0.0, 74.0, z), (9.0 * tail, 5.0, 50.0), 25.0)
    _ribs(canvas, body, cavity, marrow)
    if z > 95.0:
        front = -0.5 * float(np.interp(z, (95.0, 230.0), (172.0, 140.0))) - 11.0
        canvas.blob((0.0, front, z), (19.0, 6.5, 50.0), 0.6 * tissue.bone)
        canvas.blob((0.0, front, z), (16.0, 4.0, 50.0), tissue.marrow)
    if z < -140.0:
        _pelvis(canvas, body, cavity, marrow)


def _ribs(canvas: Canvas, body: Body, cavity: Array, marrow: Array) -> None:
    """Ribs run down and forward in the wall; the lower ones end early."""
    x, y, z = canvas.x, canvas.y, canvas.z
    if z < -110.0:
        return
    around = np.abs(np.arctan2(x, y + 8.0)) / np.float32(np.pi)  # 0 at the spine, 1 at the breastbone
    place = (z - 8.0 + 165.0 * around * (1.0 - 0.2 * around)) / 25.0
    number = np.clip(np.round(place), 0.0, 11.0)
    height = (place - number) * 25.0
    reach = np.minimum(0.33 + 0.13 * number, 0.9)
    gap = np.sqrt(((cavity - 6.0) * 1.3) ** 2 + (0.8 * height) ** 2) - 5.0
    gap = np.maximum(gap, (around - reach) * 300.0)
    canvas.paint(gap, 0.9 * body.tissue.bone, structure=RIB)
    canvas.paint(gap + 2.2, marrow, structure=RIB)


def _pelvis(canvas: Canvas, body: Body, cavity: Array, marrow: Array) -> None:
    """Iliac wings, hip joints and pubic bones."""
    x, y, z, bone = canvas.x, canvas.y, canvas.z, body.tissue.bone
    if z > -268.0:
        grown = float(np.clip((-140.0 - z) / 70.0, 0.0, 1.0))
        plate = np.abs(cavity - 6.0) - (4.0 + 3.0 * grown)
        sector = np.maximum(8.0 - 34.0 * grown - y, y - (38.0 + 22.0 * grown))
        wing = np.maximum(plate, np.maximum(sector, 46.0 - np.abs(x)))
        canvas.paint(wing, bone)
        canvas.paint(wing + 2.4, marrow)
    if z < -250.0:
        for side in (-1.0, 1.0):
            centre = (side * 93.0, 6.0, -300.0)
            canvas.blob(centre, (37.0, 36.0, 46.0), bone)
            canvas.blob(centre, (33.0, 32.0, 42.0), body.tissue.marrow)
            canvas.blob(centre, (28.0, 28.0, 30.0), 60.0)
            canvas.blob(centre, (25.0, 25.0, 27.0), 0.8 * bone)
            canvas.tube(((side * 70, -20, -310, 11.0), (side * 12, -62, -335, 9.0)), 0.8 * bone)
            canvas.tube(((side * 80, 30, -300, 12.0), (side * 62, 48, -345, 13.0)), 0.8 * bone)
            canvas.tube(((side * 96, 10, -305, 16.0), (side * 135, 18, -345, 16.0)), 0.8 * bone)
