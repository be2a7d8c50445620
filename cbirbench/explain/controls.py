"""Maps that know nothing of the extractor: what its importance maps have to beat.

- ``random-map``: RELAX's map of similarities drawn at random, from the same masks with the same estimator:
  what it makes of an extractor for which no part of the image matters. Its relevance rank is near the organ's
  share of the slice.
- ``center-map``: importance falls with the distance from the image's centre. An organ that tends to lie there
  is met by it without looking.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cbirbench.explain.relax import RelaxOptions, mapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTROLS = ("random-map", "center-map")

SIDE = 224
"""Side of a control's map in pixels, that of the protocol's images."""

LEVEL, SPREAD = 0.9, 0.01
"""Mean and deviation of random similarities, about those of real extractors. They matter to eq. 4's mean,
where the level carries the masks' own pattern into the map; to the order of a ratio map they do not."""


def control_map(name: str, slice_id: str, relax: RelaxOptions) -> NDArray[np.float32]:
    """The map of a control for one slice, over the square that the padded slice fills.

    Args:
        name: One of `CONTROLS`.
        slice_id: A random map is another for every slice, and the same whenever it is asked for.
        relax: Masks and estimator of the maps that it stands beside.

    Returns:
        float32, shape ``(SIDE, SIDE)``.
    """
    if name == "center-map":
        offset = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 4)
        return np.exp(-(offset[:, None] ** 2 + offset**2) / 2).astype(np.float32)
    if name != "random-map":
        raise ValueError(f"no control is called {name!r}")
    digest = hashlib.sha256(slice_id.encode()).digest()
    generator = np.random.default_rng([relax.seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])
    similarities = generator.normal(LEVEL, SPREAD, size=relax.masks)
    return mapped(similarities, relax, SIDE, SIDE).importance
