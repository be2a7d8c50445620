"""Where an importance map lies: its share on each labelled structure and, elsewhere, on tissue by HU.

The paper reads this off its examples by eye: in the first (figure 8) the importance lies on the spine and the
rib cage, in the third (figure 10) on the kidneys. Here every pixel of a slice belongs to exactly one tissue:
with a value in the mask to that structure, else to the class of its HU (`HU_CLASSES`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.errors import DataError
from cbirbench.slices import CTSlice, Slices

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

HU_CLASSES: tuple[tuple[str, int], ...] = (
    ("air or lung", -191),
    ("fat", -30),
    ("soft tissue", 150),
    ("bone or contrast", int(np.iinfo(np.int16).max)),
)
"""Name and highest HU, inclusive, of each class, from the lowest up; together they hold every HU.

Fat from -190 to -30 and lean tissue from -29 to 150 HU are the ranges in common use for body composition on
CT (Mitsiopoulos et al., J Appl Physiol 85:115-122, 1998). What lies below is gas: lung, bowel gas and the air
around the body, the padding of a scanner's round field included. What lies above is bone, and also whatever
took up contrast medium: bowel after oral contrast and, after an injection, large vessels, the heart and the
kidneys' cortex. Classes go by single pixels, so noise carries some pixels across a bound, and rims between
air and tissue pass through the range of fat.
"""


@dataclass(frozen=True)
class Tissue:
    """One of the parts into which slices are divided.

    Attributes:
        name: What it is called in tables; unique among the tissues of one table.
        value: The mask's value; None for a class of HU.
        target: Whether it is the target organ, or a part of it.
    """

    name: str
    value: int | None
    target: bool


@dataclass(frozen=True)
class Share:
    """What one tissue has of one slice and of its importance map, as fractions of 1.

    Attributes:
        tissue: The tissue.
        area: Its share of the slice's pixels: what a map without any preference gives it.
        importance: Its share of the importance mass; NaN where that is undefined.
        top_tenth: Its share of the tenth of the pixels that is most important; NaN where that is undefined.
    """

    tissue: Tissue
    area: float
    importance: float
    top_tenth: float


def tissues_of(slices: Slices, structures: Mapping[int, str]) -> tuple[Tissue, ...]:
    """The tissues of slices that are looked at together: the masks' values in order, then the classes of HU.

    A value that no mask of these slices holds is left out, also where it has a name. A value without a name
    is ``label 7``; one whose name another value or a class of HU has too is ``kidney (label 7)``.

    Args:
        slices: Slices of one benchmark, with one rule of what the target is.
        structures: Names of the masks' values, as far as they are known.

    Raises:
        DataError: The slices differ in which values are the target organ.
    """
    rules = {item.target_values for item in slices}
    if len(rules) > 1:
        raise DataError(
            f"The slices differ in which mask values are the target organ: {sorted(rules)}.",
            "Look at the slices of each benchmark on their own.",
        )
    target_values = next(iter(rules), ())
    found: set[int] = set()
    for item in slices:
        if item.mask is not None:
            found.update(np.flatnonzero(np.bincount(item.mask.ravel(), minlength=256)).tolist())
    names = {value: structures.get(value, f"label {value}") for value in sorted(found - {0})}
    taken = Counter([*names.values(), *(name for name, _ in HU_CLASSES)])
    labelled = [
        Tissue(
            name if taken[name] == 1 else f"{name} (label {value})",
            value,
            target=value in target_values or not target_values,
        )
        for value, name in names.items()
    ]
    return (*labelled, *(Tissue(name, None, target=False) for name, _ in HU_CLASSES))


def tissue_map(item: CTSlice, tissues: Sequence[Tissue]) -> NDArray[np.uint16]:
    """Each pixel's tissue, as its position among `tissues`, shape ``(rows, columns)``.

    Args:
        item: The slice.
        tissues: What `tissues_of` gave for slices of which this is one.

    Raises:
        DataError: The mask holds a value that is none of the tissues.
    """
    by_value = {tissue.value: position for position, tissue in enumerate(tissues) if tissue.value is not None}
    bounds = np.array([highest for _, highest in HU_CLASSES[:-1]], dtype=np.int16)
    found = (np.searchsorted(bounds, item.hu) + len(by_value)).astype(np.uint16)
    if item.mask is None:
        return found
    unknown = len(tissues)
    position_of = np.full(256, unknown, dtype=np.uint16)
    for value, position in by_value.items():
        position_of[value] = position
    inside = item.mask > 0
    found[inside] = position_of[item.mask[inside]]
    if (found == unknown).any():
        value = int(item.mask[found == unknown][0])
        raise DataError(
            f"The mask of slice {item.slice_id!r} holds the value {value}, which is none of the tissues.",
            "Name the tissues of all slices together.",
        )
    return found


def attention(importance: NDArray[np.float32], item: CTSlice, tissues: Sequence[Tissue]) -> list[Share]:
    """What each tissue has of one importance map, a row for every tissue.

    - ``area``: the tissue's share of the slice's pixels, the chance level of both others.
    - ``importance``: the tissue's share of the sum over the map less its minimum. A RELAX map is a mean of
      similarities and has a large common offset, which says nothing about where the importance lies and would
      draw every share to the area's. Less its minimum, a map's shares do not change with an offset or a
      positive factor. They do depend on the least important pixel, which is why the next stands beside them.
    - ``top_tenth``: the tissue's share of the most important tenth of the pixels, rounded up to a whole
      number. Pixels of equal importance are ordered by position, row by row, as in the relevance rank.

    Importance is taken with its sign in every profile. Each of the three sums to 1 over the tissues. The last
    two are undefined (NaN) for a map with NaN or infinity, and for one without any order (one value
    throughout).

    Args:
        importance: Map at the slice's native size, shape ``(rows, columns)``.
        item: The slice.
        tissues: What `tissues_of` gave for slices of which this is one.

    Raises:
        DataError: The map's shape is not the slice's, or the mask holds a value that is none of the tissues.
    """
    if importance.shape != item.hu.shape:
        raise DataError(
            f"Slice {item.slice_id!r} of shape {item.hu.shape} has a map of shape {importance.shape}.",
            "Bring maps to the slice's native size first.",
        )
    place = tissue_map(item, tissues).ravel()
    flat = importance.ravel()
    area = np.bincount(place, minlength=len(tissues)) / place.size
    mass = top = np.full(len(tissues), np.nan)
    if np.isfinite(flat).all() and (flat != flat[0]).any():
        above = flat.astype(np.float64) - float(flat.min())
        mass = np.bincount(place, weights=above, minlength=len(tissues)) / above.sum()
        count = -(-flat.size // 10)
        first = np.argsort(-flat, kind="stable")[:count]
        top = np.bincount(place[first], minlength=len(tissues)) / count
    return [Share(tissue, float(area[i]), float(mass[i]), float(top[i])) for i, tissue in enumerate(tissues)]


def attention_table(
    slices: Slices, maps: Mapping[str, NDArray[np.float32]], structures: Mapping[int, str]
) -> pd.DataFrame:
    """What each tissue has of each map: one row a slice that has a map, and tissue.

    Every slice has a row for every tissue that any of the slices with a map has. Where a slice does not show
    one, its area, importance and top tenth are 0, so that means over queries are means over all of them, and
    their sum over the tissues stays 1.

    Args:
        slices: Slices of one benchmark; those without a map are left out.
        maps: Importance maps by slice id, at the slices' native sizes; each is looked up once.
        structures: Names of the masks' values, as far as they are known.

    Returns:
        Columns ``query_id``, ``tissue``, ``target`` (bool), ``area``, ``importance`` and ``top_tenth``.

    Raises:
        DataError: A map's shape is not its slice's, or the slices differ in what the target is.
    """
    import pandas as pd

    explained = Slices(tuple(item for item in slices if item.slice_id in maps))
    tissues = tissues_of(explained, structures)
    rows = [
        (item.slice_id, share.tissue.name, share.tissue.target, share.area, share.importance, share.top_tenth)
        for item in explained
        for share in attention(maps[item.slice_id], item, tissues)
    ]
    table = pd.DataFrame(rows, columns=["query_id", "tissue", "target", "area", "importance", "top_tenth"])
    kinds = {"query_id": "str", "tissue": "str", "target": "bool"}
    return table.astype(kinds | dict.fromkeys(("area", "importance", "top_tenth"), "float64"))


def attention_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over queries of what each tissue has, in the table's order of tissues.

    Queries whose map has no shares (NaN) are left out of every mean, the area's included. The ratios are
    those of the means, since a tissue that a slice does not show has no ratio there.

    Args:
        table: What `attention_table` gave.

    Returns:
        Columns ``tissue``, ``target``, ``queries`` (how many the means are over), ``area``, ``importance``
        and ``top_tenth``, and the last two as multiples of the area, ``importance_ratio`` and
        ``top_tenth_ratio``: 1 is what a map without any preference gives, NaN where the tissue is not met.
    """
    shares = ["area", "importance", "top_tenth"]
    defined = table[shares].where(table["importance"].notna())
    groups = table[["tissue", "target"]].join(defined).groupby(["tissue", "target"], sort=False)
    summary = groups[shares].mean()
    summary.insert(0, "queries", groups["importance"].count())
    for share in shares[1:]:
        summary[f"{share}_ratio"] = summary[share] / summary["area"].where(summary["area"] > 0)
    return summary.reset_index()
