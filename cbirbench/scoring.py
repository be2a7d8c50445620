"""From an extractor's embeddings to one value a query: explaining, gathering the evidence, scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench.errors import MissingError, PluginError
from cbirbench.explain.native import to_native
from cbirbench.explain.passes import Passes
from cbirbench.explain.relax import Explanation, RelaxOptions, explain
from cbirbench.extraction import Result, guarded, prepared
from cbirbench.interfaces import Evidence, Explainable, Extractor, Metric, Progress
from cbirbench.plan import Contender, Plan
from cbirbench.query_sets import QuerySet
from cbirbench.ranking import Ranking, rank_within
from cbirbench.slices import CTSlice, Slices

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def explanations(
    contender: Contender,
    extractor: Extractor,
    items: Sequence[CTSlice],
    relax: RelaxOptions,
    *,
    known: Mapping[str, NDArray[np.float64]] | None = None,
    advance: Callable[[int], None],
    progress: Progress,
) -> Iterator[tuple[CTSlice, Explanation]]:
    """Explain slices, one by one; maps have the extractor's image size.

    Args:
        contender: Its name, for messages, and its device.
        extractor: What is explained.
        items: The slices.
        relax: Masks and estimator, its precision resolved.
        known: Similarities found before, by slice id; see `cbirbench.explain.relax.explain`.
        advance: Called with how many masks were just done.
        progress: Is told where memory ran out and less is done at once.

    Raises:
        PluginError: The extractor failed on a masked image.
        MissingError: Memory was too small for a single image.
    """

    def narrowed(size: int) -> None:
        progress.note(f"{contender.name}: memory ran out; {size} masked images at a time from here on.")

    passes = Passes(masked_embed(extractor, relax), contender.name, narrowed)
    for item in items:
        image = prepared(extractor, [item], device=contender.context.device, name=contender.name)
        seen = None if known is None else known.get(item.slice_id)
        work = partial(explain, passes, image, relax, known=seen, advance=advance)
        yield item, guarded_explaining(contender.name, work)


def guarded_explaining(name: str, call: Callable[[], Result]) -> Result:
    """Call what embeds masked images of an extractor.

    Raises:
        PluginError: The extractor failed.
        MissingError: Memory was too small.
    """
    too_little = MissingError(
        f"{name} ran out of memory while it was explained, even with one image at a time.",
        "Free memory, give it smaller images, or use --device cpu.",
    )
    return guarded(f"{name}.embed, of masked images,", call, out_of_memory=too_little)


def masked_embed(extractor: Extractor, relax: RelaxOptions) -> Callable[[Tensor], Tensor]:
    """What embeds masked images: the extractor's cheaper twin where it has one, made when first needed."""
    if not isinstance(extractor, Explainable) or relax.precision == "auto":
        return extractor.embed
    explainable, precision = extractor, relax.precision
    twin: list[Callable[[Tensor], Tensor]] = []

    def embed(images: Tensor) -> Tensor:
        if not twin:
            twin.append(explainable.for_explanation(precision))
        return twin[0](images)

    return embed


def ranked(plan: Plan, one: QuerySet, vectors: Sequence[NDArray[np.float32]]) -> Ranking:
    """Rank the gallery for every query of a set.

    Args:
        plan: How deep, and by which distance.
        one: Queries and gallery.
        vectors: Embeddings of the gallery and of the queries.
    """
    depth = plan.depth(one.smallest_gallery)
    return rank_within(one.parts, vectors[1], vectors[0], one.gallery.ids, depth, plan.run_options.distance)


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
    native = [
        to_native(maps[item.slice_id], item.hu.shape) if item.slice_id in maps else None for item in queries
    ]
    targets = [item.target for item in queries]
    return Evidence(
        query_labels=_read_only(queries.labels),
        gallery_labels=_read_only(gallery.labels),
        neighbours=_read_only(ranking.neighbours),
        distances=_read_only(ranking.distances),
        query_embeddings=_read_only(vectors[1]),
        gallery_embeddings=_read_only(vectors[0]),
        maps=[None if one is None else _read_only(one) for one in native],
        masks=[None if one is None else _read_only(one) for one in targets],
    )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, not to be written to: a metric that does would change what the others are given."""
    view = array.view()
    view.flags.writeable = False
    return view


def scored(metric: Metric, found: Evidence) -> NDArray[np.float64]:
    """One value a query, checked.

    Raises:
        PluginError: The metric failed, or gives something else.
    """
    values = guarded(
        f"The metric {metric.name!r}",
        lambda: metric.per_query(found),
        out_of_memory=MissingError(
            f"The metric {metric.name!r} ran out of memory.", "Free memory, or leave it out of --metrics."
        ),
    )
    return checked_values(metric, values, len(found.query_labels))


def checked_values(metric: Metric, values: Any, count: int) -> NDArray[np.float64]:
    """What a metric gave, as one finite or NaN value a query.

    Raises:
        PluginError: It is something else.
    """
    try:
        array = np.asarray(values)
        real = array.dtype.kind in "fiub"
        array = array.astype(np.float64) if real else array
    except Exception as error:  # whatever somebody else's object may raise
        array, real = np.empty(0), False
        kind = f"{type(values).__name__} ({type(error).__name__})"
    else:
        kind = f"{type(values).__name__} of {array.dtype}"
    if not real:
        raise PluginError(
            f"The metric {metric.name!r} must give one number for each of {count} queries, got {kind}.",
            "Report it to the plugin's authors.",
        )
    if array.shape != (count,) or np.isinf(array).any():
        raise PluginError(
            f"The metric {metric.name!r} must give one finite or NaN value for each of {count} queries, "
            f"got shape {array.shape}" + (" with infinite values." if np.isinf(array).any() else "."),
            "Report it to the plugin's authors.",
        )
    return array
