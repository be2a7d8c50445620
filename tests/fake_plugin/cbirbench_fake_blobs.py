"""A small benchmark for tests of the core, in a module of its own: its workers need not import torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cbirbench.errors import DataError
from cbirbench.interfaces import Options, Source, option
from cbirbench.slices import CTSlice, Slices


class BlobsOptions(Options):
    scans: int = option(2, ge=0, description="Scans of each split.")
    shared_patient: bool = option(False, description="Whether one patient is on both sides.")
    repeated_id: bool = option(False, description="Whether two scans have one id.")
    bad: str | None = option(None, description="A scan that cannot be used.")
    how: str = option("data", description="In which way it cannot.")


class ArchivedBlobsOptions(BlobsOptions):
    data: Path | None = option(None, description="Where the scans are.", protocol=False)


class Blobs:
    """Scans of two slices each: noise without the organ, and noise around a bright organ."""

    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = BlobsOptions
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "run": {"runs": 2},
        "learned-offset": {"epochs": 3},
    }
    synthetic: ClassVar[bool] = True
    structures: ClassVar[Mapping[int, str]] = {}

    def __init__(self, options: BlobsOptions) -> None:
        self.options = options

    def sources(self) -> Sequence[Source]:
        count = self.options.scans
        found = [Source(f"g{i}", f"patient-g{i}", "gallery", {"seed": i}) for i in range(count)]
        found += [Source(f"q{i}", f"patient-q{i}", "query", {"seed": 100 + i}) for i in range(count)]
        if self.options.shared_patient:
            found[-1] = Source(found[-1].volume_id, "patient-g0", "query", {})
        if self.options.repeated_id:
            found[-1] = Source("g0", found[-1].patient_id, "query", {})
        return found

    def read(self, source: Source) -> Slices:
        patient = source.patient_id
        if source.volume_id == self.options.bad:
            match self.options.how:
                case "data":
                    raise DataError(f"{source.volume_id} is truncated.", "Fetch it again.")
                case "mistake":
                    raise KeyError("affine")
                case "death":
                    os._exit(3)
                case "stranger":
                    patient = "somebody else"
                case "namesake":
                    return Slices(tuple(replace(s, patient_id=patient) for s in self.read(self.sources()[0])))
                case "nothing":
                    return Slices(())
        generator = np.random.default_rng(list(source.volume_id.encode()))
        items = []
        for label in (0, 1):
            hu = generator.integers(-200, 100, (12, 10)).astype(np.int16)
            mask = np.zeros(hu.shape, np.uint8)
            if label:
                hu[3:8, 2:7], mask[3:8, 2:7] = 250, 1
            name = f"{source.volume_id}-{label}"
            items.append(CTSlice(hu, mask, name, patient, source.volume_id, source.volume_id, label, label))
        return Slices(tuple(items))


class ArchivedBlobs(Blobs):
    interface_version: ClassVar[int] = 1
    options_type: ClassVar[type[Options]] = ArchivedBlobsOptions
