"""From an extractor's embeddings to one value a query: explaining, gathering the evidence, scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import CbirbenchError, MissingError, PluginError
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import importance_maps
from cbirbench.extraction import prepared
from cbirbench.interfaces import Evidence, Extractor, Metric
from cbirbench.plan import Contender, Plan
from cbirbench.ranking import Ranking
from cbirbench.slices import CTSlice, Slices, square_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

EXPLAINED_TOGETHER = 8
"""Images that share one rendering of the masks; their maps are handed on as soon as they are made."""


def explanations(
    plan: Plan,
    contender: Contender,
    extractor: Extractor,
    items: Sequence[CTSlice],
    advance: Callable[[int], None],
) -> Iterator[tuple[CTSlice, NDArray[np.float32]]]:
    """Importance maps of slices at the extractor's image size, a few at a time.

    Args:
        plan: Holds RELAX's options and the device.
        contender: Its name, for messages.
        extractor: What is explained.
        items: The slices.
        advance: Called with how many masks were just done.

    Raises:
        PluginError: The extractor failed on a masked image.
        MissingError: The GPU's memory was too small.
    """
    for positions, hu in square_batches(Slices(tuple(items)), EXPLAINED_TOGETHER):
        images = prepared(extractor, hu, device=plan.device, name=contender.name)
        made = _importance(contender, extractor, images, plan, advance)
        yield from ((items[position], found) for position, found in zip(positions, made, strict=True))


def _importance(
    contender: Contender, extractor: Extractor, images: Tensor, plan: Plan, advance: Callable[[int], None]
) -> NDArray[np.float32]:
    import torch

    try:
        return importance_maps(extractor, images, plan.relax, advance=advance)
    except CbirbenchError as error:
        raise type(error)(f"{contender.name}: {error.problem}", error.remedy) from error
    except torch.OutOfMemoryError as error:
        raise MissingError(
            f"{contender.name} ran out of GPU memory while it was explained.",
            "Give it less at once: --set relax.batch_size=N, or use --device cpu.",
        ) from error
    except Exception as error:
        raise PluginError(
            f"{contender.name} failed on masked images: {type(error).__name__}: {error}",
            "An extractor must embed any image in 0..1; leave it out, or run without relevance-rank.",
        ) from error


def evidence(
    gallery: Slices,
    queries: Slices,
    vectors: Sequence[NDArray[np.float32]],
    ranking: Ranking,
    maps: Mapping[str, NDArray[np.float32]],
) -> Evidence:
    """What metrics are computed from.

    Args:
        gallery: The gallery's slices.
        queries: The queries.
        vectors: Embeddings of the gallery and of the queries.
        ranking: The queries' neighbours.
        maps: Importance maps by slice id, at the extractor's image size.
    """
    return Evidence(
        query_labels=queries.labels,
        gallery_labels=gallery.labels,
        neighbours=ranking.neighbours,
        distances=ranking.distances,
        query_embeddings=vectors[1],
        gallery_embeddings=vectors[0],
        maps=[
            to_native(maps[item.slice_id], item.hu.shape) if item.slice_id in maps else None
            for item in queries
        ],
        masks=[None if item.mask is None else item.mask > 0 for item in queries],
    )


def scored(metric: Metric, found: Evidence) -> NDArray[np.float64]:
    """One value a query, checked.

    Raises:
        PluginError: The metric gives something else.
    """
    return _checked_values(metric, metric.per_query(found), len(found.query_labels))


def _checked_values(metric: Metric, values: Any, count: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,) or np.isinf(array).any():
        raise PluginError(
            f"The metric {metric.name!r} must give one finite or NaN value for each of {count} queries, "
            f"got shape {array.shape}" + (" with infinite values." if np.isinf(array).any() else "."),
            "Report it to the plugin's authors.",
        )
    return array
