"""A finished run once more: its slices, and its extractors as they were evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cbirbench import keys, registry, results
from cbirbench.embedding import embedded_slices
from cbirbench.errors import DataError, UsageError
from cbirbench.extraction import embed_slices
from cbirbench.interfaces import Augmentation, Context, Extractor, Options, Progress, Trainable
from cbirbench.plan import Contender
from cbirbench.query_sets import QuerySet
from cbirbench.registry import Plugin
from cbirbench.report.cohorts import cohorts_of, of_cohort
from cbirbench.settings import validated
from cbirbench.slices import CTSlice, Slices
from cbirbench.store import Store, arrays_digest, slices_from_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_EMBEDDING = 1e-3
"""Largest distance, relative to its length, of a query's embedding from the one that the run recorded."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The folder of a finished run.

    Attributes:
        folder: Where it is.
        summary: The content of summary.json.
        gallery: Its gallery, pixels included.
        queries: Its queries.
    """

    folder: Path
    summary: Mapping[str, Any]
    gallery: Slices
    queries: Slices

    @property
    def structures(self) -> dict[int, str]:
        """Names of its masks' values, as far as they are known."""
        named = self.summary["benchmark"].get("structures", {})
        return {int(value): str(text) for value, text in named.items()}

    def entry(self, name: str = "") -> Mapping[str, Any]:
        """What the summary holds of an extractor, by its name or an alias; without one, of the first.

        Raises:
            UsageError: The run has no such extractor.
        """
        entries: Sequence[Mapping[str, Any]] = self.summary["extractors"]
        for entry in entries:
            if not name or name in (entry["name"], *entry["aliases"]):
                return entry
        names = [str(entry["name"]) for entry in entries]
        raise UsageError(
            f"{self.folder} has no extractor {name!r}.",
            f"{registry.nearest(name, names)}It has: {', '.join(names)}.",
        )

    def extractor(self, name: str, run: int, device: str) -> tuple[Contender, Extractor]:
        """An extractor with the options that it had in the run and, if it is trainable, with its weights.

        Args:
            name: Its name or an alias.
            run: Which training run of it, from 0.
            device: Where it works, ``cpu`` or ``cuda``.

        Raises:
            UsageError: The run has no such extractor or training run, or its plugin no longer takes these
                options.
            MissingError: Its plugin, or its starting weights, are not here.
            DataError: The file of its weights is missing or damaged.
        """
        import torch

        entry = self.entry(name)
        if not 0 <= run < entry["runs"]:
            raise UsageError(
                f"{entry['name']} has no run {run} in {self.folder}.",
                f"Its runs are numbered from 0 to {entry['runs'] - 1}.",
            )
        plugin = registry.find("extractor", entry.get("plugin") or entry["name"])
        options = validated(registry.load(plugin).options_type, entry["options"], plugin.name)
        variant = entry["name"] if entry["name"] != plugin.name else ""
        alias = next(iter(entry["aliases"]), "")
        asked_for: dict[str, tuple[Plugin, Options]] = {}

        def augmentation(name: str) -> Augmentation:
            # Only training uses it; an extractor asks for it when it is made all the same.
            used = registry.find("augmentation", name)
            given = self.summary.get("augmentations", {}).get(used.name, {})
            asked_for[used.name] = used, validated(registry.load(used).options_type, given, name)
            made: Augmentation = registry.make(*asked_for[used.name])
            return made

        contender = Contender(
            plugin,
            alias,
            options,
            Context(device, augmentation),
            entry["trained"],
            entry["runs"],
            variant=variant,
        )
        extractor = contender.make()
        if isinstance(extractor, Trainable):
            arrays, _ = results.read_run_arrays(
                self.folder, results.array_file("weights", entry["name"], run)
            )
            extractor.load_weights({key: torch.from_numpy(array) for key, array in arrays.items()})
        return replace(
            contender,
            augmentations=tuple(used for used, _ in asked_for.values()),
            augmentation_options={used: chosen for used, (_, chosen) in asked_for.items()},
        ), extractor

    def query_set(self, slice_id: str = "") -> QuerySet:
        """The queries that have a slice of that id, with their gallery; without one, the run's own.

        Raises:
            DataError: A file of an external cohort is missing or damaged.
        """
        for cohort in cohorts_of(self.summary)[1:]:
            if slice_id.startswith(f"{cohort}/"):
                seen = of_cohort(self.summary, cohort)["benchmark"]
                queries = _read_slices(
                    self.folder, f"{results.cohort_folder(cohort)}/slices/query.safetensors"
                )
                alone = seen["own_gallery"]
                return QuerySet(
                    cohort=cohort,
                    gallery=queries if alone else self.gallery,
                    queries=queries,
                    external=True,
                    among_themselves=alone,
                    synthetic=seen["synthetic"],
                    structures={int(value): str(text) for value, text in seen["structures"].items()},
                )
        benchmark = self.summary["benchmark"]
        return QuerySet(
            benchmark["name"],
            self.gallery,
            self.queries,
            synthetic=benchmark["synthetic"],
            structures=self.structures,
        )

    def reopened(
        self, name: str, number: int, device: str, position: int = 0, one: QuerySet | None = None
    ) -> ReopenedExtractor:
        """An extractor as it was, once it has shown that it still embeds one of the run's queries alike.

        Args:
            name: Its name or an alias.
            number: Which training run of it, from 0.
            device: Where it works, ``cpu`` or ``cuda``.
            position: Which of the queries is tried.
            one: Whose queries; None for the run's own.

        Raises:
            UsageError: See `extractor`.
            MissingError: See `extractor`.
            DataError: It no longer embeds as it did, or a file is missing or damaged.
        """
        contender, extractor = self.extractor(name, number, device)
        vectors, _ = results.read_run_arrays(
            self.folder, results.array_file("embeddings", contender.name, number)
        )
        gallery, queries = vectors["gallery"], vectors["query"]
        one = one or self.query_set()
        if one.external:
            file = results.array_file("embeddings", contender.name, number)
            outside, _ = results.read_run_arrays(self.folder, f"{results.cohort_folder(one.cohort)}/{file}")
            queries = outside["query"]
            gallery = queries if one.among_themselves else gallery
        found = ReopenedExtractor(self, contender, extractor, number, gallery, queries)
        found._check(one.queries[position], queries[position])
        return found


@dataclass(frozen=True, eq=False)
class ReopenedExtractor:
    """An extractor of a finished run that embeds as it did there.

    Attributes:
        run: The run.
        contender: Its name, options and device.
        extractor: The extractor itself, with its weights.
        number: Which training run of it.
        gallery_vectors: What the run recorded of the gallery, float32, shape ``(g, d)``.
        query_vectors: The same of the queries that it was reopened for, shape ``(q, d)``.
    """

    run: FinishedRun
    contender: Contender
    extractor: Extractor
    number: int
    gallery_vectors: NDArray[np.float32]
    query_vectors: NDArray[np.float32]

    @cached_property
    def shaped_by(self) -> keys.ShapedBy:
        """What shaped its output; a training that would be made alike now shares the run's cache."""
        untrained = keys.untrained(self.contender.context.device, self.contender, self.extractor)
        if not isinstance(self.extractor, Trainable):
            return untrained
        entry = self.run.entry(self.contender.name)
        record = next(found for found in entry["training"] if found["run"] == self.number)
        key = keys.weights(untrained, self.run.gallery, record["seed"])
        if key == record.get("weights_key"):
            return keys.trained(key)
        weights = {name: tensor.numpy() for name, tensor in self.extractor.weights().items()}
        return {**untrained, "weights": arrays_digest(weights)}

    def embed(self, slices: Slices, store: Store, progress: Progress, title: str) -> NDArray[np.float32]:
        """Embed slices of any sizes, or take equal embeddings from the cache.

        Args:
            slices: The slices.
            store: The cache.
            progress: Where to report.
            title: What the step is called there.

        Returns:
            float32, shape ``(n, d)``.

        Raises:
            PluginError: The extractor hands over something its interface forbids.
        """
        return embedded_slices(
            self.contender,
            self.extractor,
            self.shaped_by,
            slices,
            self.run.summary["run_options"]["batch_size"],
            store,
            progress,
            title,
        )

    def _check(self, query: CTSlice, recorded: NDArray[np.float32]) -> None:
        """Check that it is what it was: else its answers would be of another extractor's."""
        (now,) = embed_slices(
            self.extractor,
            Slices((query,)),
            batch_size=1,
            device=self.contender.context.device,
            name=self.contender.name,
            advance=lambda done: None,
        )
        apart = np.inf
        if now.shape == recorded.shape:
            length = max(float(np.linalg.norm(recorded)), 1e-12)
            apart = float(np.linalg.norm(now.astype(np.float64) - recorded)) / length
        if apart > SAME_EMBEDDING:
            then = {str(key): value for key, value in (self.run.summary.get("versions") or {}).items()}
            raise DataError(
                f"{self.contender.name} no longer embeds {query.slice_id} as it did in {self.run.folder}: "
                f"its weights, its program or a library is another (relative distance {apart:.2g}).",
                f"Install what the run was made with ({', '.join(f'{k} {v}' for k, v in then.items())}), or "
                "make the run anew.",
            )


def open_run(folder: Path) -> FinishedRun:
    """Read a finished run's summary and slices.

    Raises:
        UsageError: The folder holds no finished run.
        DataError: A file is missing or damaged, or the run kept no pixels.
    """
    summary = results.read_summary(folder)
    gallery, queries = (_read_slices(folder, f"slices/{split}.safetensors") for split in ("gallery", "query"))
    return FinishedRun(folder, summary, gallery, queries)


def _read_slices(folder: Path, file: str) -> Slices:
    arrays, metadata = results.read_run_arrays(folder, file)
    try:
        return slices_from_arrays(arrays, metadata)
    except KeyError as error:
        raise DataError(f"{folder}/{file} lacks {error}.", "Run the same command again.") from error
