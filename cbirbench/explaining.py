"""Explanations of slices, from the cache where their similarities were found before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cbirbench import keys
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.interfaces import Extractor, Progress
from cbirbench.plan import Contender
from cbirbench.scoring import explanations
from cbirbench.slices import CTSlice
from cbirbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


def explained(
    contender: Contender,
    extractor: Extractor,
    shaped_by: keys.ShapedBy,
    items: Sequence[CTSlice],
    relax: RelaxOptions,
    store: Store,
    progress: Progress,
    title: str,
) -> dict[str, Explanation]:
    """Explain slices; similarities to more masks than are cached are added to them.

    Args:
        contender: The extractor's name and device.
        extractor: The extractor itself, trained if it is trainable.
        shaped_by: What shaped its output, for the cache.
        items: The slices.
        relax: Masks and estimator, its precision resolved.
        store: The cache.
        progress: Where to report.
        title: What the step is called there.

    Returns:
        By slice id, in the order of `items`; maps have the extractor's image size.
    """
    places = {item.slice_id: keys.similarities(relax, shaped_by, item) for item in items}
    known: dict[str, NDArray[np.float64]] = {}
    for item in items:
        entry = store.read("similarities", places[item.slice_id])
        if entry is not None:
            known[item.slice_id] = entry[0]["similarities"]
    found: dict[str, Explanation] = {}
    with progress.stage(f"{title} (masked images)", len(items) * relax.masks) as advance:
        made = explanations(
            contender, extractor, items, relax, known=known, advance=advance, progress=progress
        )
        for item, explanation in made:
            found[item.slice_id] = explanation
            if explanation.masks > len(known.get(item.slice_id, ())):
                arrays = {"similarities": explanation.similarities}
                store.write("similarities", places[item.slice_id], arrays)
    return {item.slice_id: found[item.slice_id] for item in items}
