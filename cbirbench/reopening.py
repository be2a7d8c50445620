"""A finished run once more: its slices, and its extractors as they were evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cbirbench import registry, results
from cbirbench.errors import DataError, UsageError
from cbirbench.interfaces import Augmentation, Context, Extractor, Trainable
from cbirbench.plan import Contender
from cbirbench.registry import Plugin
from cbirbench.settings import validated
from cbirbench.slices import Slices
from cbirbench.store import slices_from_arrays


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

    def entry(self, name: str) -> Mapping[str, Any]:
        """What the summary holds of an extractor, by its name or an alias.

        Raises:
            UsageError: The run has no such extractor.
        """
        entries: Sequence[Mapping[str, Any]] = self.summary["extractors"]
        for entry in entries:
            if name in (entry["name"], *entry["aliases"]):
                return entry
        names = [str(entry["name"]) for entry in entries]
        raise UsageError(
            f"{self.folder} has no extractor {name!r}.",
            f"{registry.nearest(name, names)}It has: {', '.join(names)}.",
        )

    def contender(self, name: str, device: str) -> Contender:
        """An extractor of the run, with the options that it had there.

        Raises:
            UsageError: The run has no such extractor, or its plugin no longer takes these options.
            MissingError: Its plugin, or its starting weights, are not here.
        """
        entry = self.entry(name)
        plugin = registry.find("extractor", entry["name"])
        options = validated(registry.load(plugin).options_type, entry["options"], plugin.name)
        alias = next(iter(entry["aliases"]), "")
        asked_for: list[Plugin] = []

        def augmentation(name: str) -> Augmentation:
            # Only training uses it; an extractor asks for it when it is made all the same.
            asked_for.append(registry.find("augmentation", name))
            options_type = registry.load(asked_for[-1]).options_type
            given = self.summary.get("augmentations", {}).get(asked_for[-1].name, {})
            made: Augmentation = registry.make(asked_for[-1], validated(options_type, given, name))
            return made

        contender = Contender(
            plugin, alias, options, Context(device, augmentation), entry["trained"], entry["runs"]
        )
        contender.make()
        return replace(contender, augmentations=tuple(asked_for))

    def load_weights(self, extractor: Extractor, name: str, run: int) -> None:
        """Give a trainable extractor the weights of one training run.

        Raises:
            UsageError: There was no such run.
            DataError: The file is missing or damaged.
        """
        import torch

        entry = self.entry(name)
        if not 0 <= run < entry["runs"]:
            raise UsageError(
                f"{entry['name']} has no run {run} in {self.folder}.",
                f"Its runs are numbered from 0 to {entry['runs'] - 1}.",
            )
        if isinstance(extractor, Trainable):
            file = results.array_file("weights", entry["name"], run)
            arrays, _ = results.read_run_arrays(self.folder, file)
            extractor.load_weights({key: torch.from_numpy(array) for key, array in arrays.items()})


def open_run(folder: Path) -> FinishedRun:
    """Read a finished run's summary and slices.

    Raises:
        UsageError: The folder holds no finished run.
        DataError: A file is missing or damaged, or the run kept no pixels.
    """
    summary = results.read_summary(folder)
    splits = []
    for split in ("gallery", "query"):
        arrays, metadata = results.read_run_arrays(folder, f"slices/{split}.safetensors")
        try:
            splits.append(slices_from_arrays(arrays, metadata))
        except KeyError as error:
            raise DataError(
                f"{folder}/slices/{split}.safetensors lacks {error}.", "Run the same command again."
            ) from error
    return FinishedRun(folder, summary, *splits)
