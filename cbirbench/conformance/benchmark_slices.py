"""Checks of the slices that a benchmark reads, from a few scans of each side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.conformance.benchmark_reading import ReadScan, scans_of, slices_of, sources_of
from cbirbench.conformance.declarations import sent
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, demand
from cbirbench.errors import CbirbenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWEST, HIGHEST = -4096, 32766
"""HU that a scan can hold: below, scanners pad at most to -3024 or so; above, only int16's own end."""

AIR_BELOW, TISSUE = -700, (-200, 300)
"""Where air and soft tissue lie: a slice of a body has some of both, if not always in every crop."""

LEAST_TISSUE = 0.005
"""Least share of a scan's pixels that is soft tissue."""


CUT_OFF = 0.01
"""Share of a scan's pixels at its very lowest or highest HU that only a window leaves there: air is noisy,
and scanners cut at -1024 and 3071."""

BODY = -300
"""HU above which pixels are a body's: what they enclose, lungs and bowel gas, belongs to it."""


def _told(subject: Subject, scans: Sequence[ReadScan]) -> str:
    """How much was read of how much there is."""
    count = sum(len(one.slices) for one in scans)
    return f"{count} slices of {len(scans)} of its {len(sources_of(subject))} scans"


def read(subject: Subject) -> str:
    """Slices say the scan and the patient of their source."""
    scans = scans_of(subject, tell=True)
    for one in scans:
        for item in one.slices:
            demand(
                (item.volume_id, item.patient_id) == (one.source.volume_id, one.source.patient_id),
                f"Slice {item.slice_id!r} says scan {item.volume_id!r} of {item.patient_id!r}, its source "
                f"{one.source.volume_id!r} of {one.source.patient_id!r}.",
                "Take both from the source.",
            )
    return _told(subject, scans)


def slice_ids(subject: Subject) -> str:
    """No two slices share an id."""
    scans = scans_of(subject)
    ids = [item.slice_id for one in scans for item in one.slices]
    twice = sorted(one for one, times in Counter(ids).items() if times > 1)
    demand(
        not twice,
        f"{len(twice)} ids come in several scans, {twice[0] if twice else ''!r} for one.",
        "Begin a slice's id with its scan's: f'{volume_id}_z{z_index:04d}'.",
    )
    return f"{len(ids)} ids, each once"


def positions(subject: Subject) -> str:
    """Each slice has a place of its own in its scan."""
    scans = scans_of(subject)
    unplaced = 0
    for one in scans:
        places = [int(item.z_index) for item in one.slices]
        demand(
            len(set(places)) == len(places),
            f"Two slices of {one.source.volume_id} have the same z_index.",
            "It counts a scan's slices from 0, the most inferior.",
        )
        unplaced += sum(item.volume_slices is None for item in one.slices)
    note = f"; {unplaced} slices do not say of how many (volume_slices)" if unplaced else ""
    return f"places in the scan, each once{note}"


def hounsfield_units(subject: Subject) -> str:
    """Pixels are plausible HU, with soft tissue among them."""
    scans = scans_of(subject)
    lows, highs, tissue, airless, cut = [], [], [], [], []
    remedy = (
        "Apply the file's rescale slope and intercept: slices carry HU, not stored values or grey values."
    )
    for one in scans:
        pixels = np.concatenate([item.hu.ravel() for item in one.slices])
        lows.append(int(pixels.min()))
        highs.append(int(pixels.max()))
        tissue.append(float(((pixels > TISSUE[0]) & (pixels < TISSUE[1])).mean()))
        if not (pixels < AIR_BELOW).any():
            airless.append(one.source.volume_id)
        ends = _cut_off(pixels)
        cut += [f"{one.source.volume_id} at {ends}"] if ends else []
        demand(
            lows[-1] >= LOWEST and highs[-1] <= HIGHEST,
            f"{one.source.volume_id} has {lows[-1]} to {highs[-1]} HU.",
            remedy,
        )
        demand(
            lows[-1] < 0,
            f"{one.source.volume_id} has nothing below 0 HU, only {lows[-1]} to {highs[-1]}: fat has -100.",
            remedy,
        )
        demand(
            tissue[-1] >= LEAST_TISSUE,
            f"{100 * tissue[-1]:.2g} % of {one.source.volume_id} lies in {TISSUE[0]} to {TISSUE[1]} HU, "
            "where soft tissue does.",
            remedy,
        )
        demand(
            highs[-1] > 20,
            f"{one.source.volume_id} has nothing above {highs[-1]} HU: organs have 30 to 150.",
            remedy,
        )
    demand(
        not cut or subject.one.synthetic is True,
        f"HU are cut off: {', '.join(cut[:3])}, where {100 * CUT_OFF:g} % of the pixels or more lie exactly.",
        "Give HU as the scanner did: which of them are looked at is each extractor's own choice.",
    )
    note = f"; no air in {', '.join(airless[:3])}" if airless else ""
    note += f"; cut off: {', '.join(cut[:3])}" if cut else ""
    return f"{min(lows)} to {max(highs)} HU, {100 * min(tissue):.0f} % soft tissue at least{note}"


def _cut_off(pixels: NDArray[np.int16]) -> str:
    """The HU at which a window was put over them, for a verdict; empty where none was."""
    low, high = int(pixels.min()), int(pixels.max())
    ends = [
        f"{end} HU"
        for end, plausible in ((low, low <= -900), (high, high >= 3000))
        if not plausible and (pixels == end).mean() >= CUT_OFF
    ]
    return " and ".join(ends)


def masks(subject: Subject) -> str:
    """Where there are masks, a slice's label says whether it shows the target."""
    scans = scans_of(subject)
    items = [item for one in scans for item in one.slices]
    demand(
        all(item.label in (0, 1) for item in items),
        f"Labels are {sorted({int(item.label) for item in items})}.",
        "1 where the target is shown, else 0.",
    )
    masked = [item for item in items if item.mask is not None]
    shown = sum(item.label for item in items)
    if not masked:
        return f"no masks; {shown} of {len(items)} slices labelled 1"
    wrong = [item.slice_id for item in masked if bool(item.label) != item.shows_target]
    demand(
        not wrong,
        f"{len(wrong)} of {len(masked)} slices have a label that their mask contradicts, "
        f"{wrong[0] if wrong else ''!r} for one.",
        "The label is 1 where the mask holds the target's values; see CTSlice.target_values.",
    )
    return f"{len(masked)} of {len(items)} slices have masks; {shown} show the target"


def mask_alignment(subject: Subject) -> str:
    """Masks lie on the body, not on the air around it; air within, as lungs hold, is the body's."""
    scans = scans_of(subject)
    items = [item for one in scans for item in one.slices if item.mask is not None and item.mask.any()]
    if not items:
        raise Beside("None of the slices read has a mask with anything in it.")
    outside = [(item.hu < AIR_BELOW) & ~_body(item.hu) for item in items]
    under = [air[item.mask > 0] for air, item in zip(outside, items, strict=True) if item.mask is not None]
    air = float(np.concatenate(under).mean())
    everywhere = float(np.mean([found.mean() for found in outside]))
    demand(
        everywhere == 0 or air <= max(0.5 * everywhere, 0.02) or everywhere > 0.98,
        f"{100 * air:.0f} % of the masks' pixels are air around the body, of the slices' "
        f"{100 * everywhere:.0f} %: masks do not lie on what they mark.",
        "Bring image and mask into one orientation and onto one grid.",
    )
    shares = f"{100 * air:.1f} % of the masks' pixels are air around the body, of the slices'"
    return f"{shares} {100 * everywhere:.0f} %"


def _body(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """The pixels of a body and of what it encloses; air that reaches the border is outside."""
    from scipy.ndimage import binary_fill_holes

    filled: NDArray[np.bool_] = binary_fill_holes(hu > BODY)
    return filled


def mask_values(subject: Subject) -> str:
    """The masks' values, and which of them have names."""
    scans = scans_of(subject)
    found = sorted(
        {
            int(v)
            for one in scans
            for item in one.slices
            if item.mask is not None
            for v in np.unique(item.mask)
        }
        - {0}
    )
    if not found:
        raise Beside("None of the slices read has a mask with anything in it.")
    named = subject.one.structures
    unnamed = [value for value in found if value not in named]
    note = f"; by number only: {', '.join(map(str, unnamed))}" if unnamed else ""
    return f"{', '.join(f'{value} {named[value]}' for value in found if value in named) or 'no names'}{note}"


def read_again(subject: Subject) -> str:
    """A scan gives the same slices when it is read again, by another process too."""
    scans = scans_of(subject)
    first = scans[0]
    there, source = sent((subject.one, first.source), "It, or its scans,")
    for what, benchmark, one in (
        ("Read again", subject.make(), first.source),
        ("Read once pickled and unpickled", there, source),
    ):
        if what == "Read again":
            benchmark.sources()  # it may find its files by that
        try:
            slices = slices_of(subject, benchmark, one)
        except CbirbenchError as error:
            raise type(error)(
                f"{what}, {first.source.volume_id} fails: {error.problem}", error.remedy
            ) from error
        demand(
            slices.fingerprint() == first.slices.fingerprint(),
            f"{what}, {first.source.volume_id} gives other slices.",
            "Draw slices with a seed of the options, cbirbench.datasets.sampling.draw_slices for one.",
        )
    return f"{first.source.volume_id} twice, and pickled: the same {len(first.slices)} slices"


CHECKS = (
    read,
    slice_ids,
    positions,
    hounsfield_units,
    masks,
    mask_alignment,
    mask_values,
    read_again,
)
