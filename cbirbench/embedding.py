"""Embeddings of slices, from the cache where equal ones were made before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbirbench import keys
from cbirbench.extraction import embed_slices
from cbirbench.interfaces import Extractor, Progress
from cbirbench.plan import Contender
from cbirbench.slices import Slices
from cbirbench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def embedded_slices(
    contender: Contender,
    extractor: Extractor,
    shaped_by: keys.ShapedBy,
    slices: Slices,
    batch_size: int,
    store: Store,
    progress: Progress,
    title: str,
) -> NDArray[np.float32]:
    """Embed slices of any sizes, or take equal embeddings from the cache.

    Args:
        contender: The extractor's name and device.
        extractor: The extractor itself, trained if it is trainable.
        shaped_by: What shaped its output, for the cache.
        slices: The slices.
        batch_size: Most slices at once.
        store: The cache.
        progress: Where to report.
        title: What the step is called there.

    Returns:
        float32, shape ``(n, d)``, in the order of the slices.

    Raises:
        PluginError: The extractor hands over something its interface forbids.
    """
    key = keys.embeddings(shaped_by, slices, batch_size)
    entry = store.read("embeddings", key)
    if entry is not None:
        return entry[0]["embeddings"]
    with progress.stage(title, len(slices)) as advance:
        vectors = embed_slices(
            extractor,
            slices,
            batch_size=batch_size,
            device=contender.context.device,
            name=contender.name,
            advance=advance,
        )
    store.write("embeddings", key, {"embeddings": vectors})
    return vectors
