"""Every check of benchmarks catches one that is wrong in just that way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cbirbench.errors import DataError, UsageError
from cbirbench.interfaces import Options, Plugin, Source, option
from cbirbench.slices import CTSlice, Slices
from cbirbench.testing import made_slices


class SoundOptions(Options):
    scans: int = option(3, description="Scans of each side.", ge=1)


class Sound(Plugin):
    """Made-up scans of four slices."""

    interface_version = 1
    options_type = SoundOptions
    synthetic = True
    structures: Any = {1: "organ"}
    defaults: Mapping[str, Mapping[str, Any]] = {"hog": {"image_size": 64}, "run": {"runs": 1}}

    def sources(self) -> Sequence[Source]:
        count = self.options.scans
        return [
            Source(f"v{i}", f"p{i}", "gallery" if i < count else "query", {"seed": i})
            for i in range(2 * count)
        ]

    def read(self, source: Source) -> Slices:
        seed = int(source.fingerprint["seed"])  # type: ignore[index,arg-type]
        return Slices(
            tuple(
                self.changed(
                    replace(
                        item,
                        slice_id=f"{source.volume_id}_{item.z_index}",
                        patient_id=source.patient_id,
                        study_id=source.volume_id,
                        volume_id=source.volume_id,
                    )
                )
                for item in made_slices(4, side=32, seed=seed)
            )
        )

    def changed(self, item: CTSlice) -> CTSlice:
        return item


class NotSaying(Sound):
    synthetic: Any = "maybe"


class NamesTheBackground(Sound):
    structures = {0: "background", 1: "organ"}


class ListsStructures(Sound):
    structures = ["organ"]


class MisspeltDefault(Sound):
    defaults = {"hog": {"image_syze": 64}}


class DefaultOutOfBounds(Sound):
    defaults = {"simsiam": {"epochs": 0}}


class FromASet(Sound):
    flips = itertools.count()

    def sources(self) -> Sequence[Source]:
        listed = list(super().sources())
        return [*listed[:3][:: 1 if next(self.flips) % 2 else -1], *listed[3:]]


class SameId(Sound):
    def sources(self) -> Sequence[Source]:
        return [replace(one, volume_id="v0") for one in super().sources()]


class QueriesFirst(Sound):
    def sources(self) -> Sequence[Source]:
        return super().sources()[::-1]


class NoQueries(Sound):
    def sources(self) -> Sequence[Source]:
        return super().sources()[:3]


class OtherSplit(Sound):
    def sources(self) -> Sequence[Source]:
        return [replace(one, split="train") for one in super().sources()]  # type: ignore[arg-type]


class NoFolder(Sound):
    def sources(self) -> Sequence[Source]:
        raise DataError("There is no folder 'scans'.", "Give one with --data.")


class SourcesRaise(Sound):
    def sources(self) -> Sequence[Source]:
        raise KeyError("scans")


class SamePatients(Sound):
    def sources(self) -> Sequence[Source]:
        return [replace(one, patient_id=f"p{i % 3}") for i, one in enumerate(super().sources())]


class NoJson(Sound):
    def sources(self) -> Sequence[Source]:
        return [replace(one, fingerprint={"seed": object()}) for one in super().sources()]


class NamesNothing(Sound):
    synthetic = False

    def sources(self) -> Sequence[Source]:
        return [replace(one, fingerprint={}) for one in super().sources()]


class HoldsALambda(Sound):
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.key = lambda source: source.volume_id


class ReadRaises(Sound):
    def read(self, source: Source) -> Slices:
        raise KeyError("affine")


class ReadsNothing(Sound):
    def read(self, source: Source) -> Slices:
        return Slices(())


class Stranger(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, patient_id="somebody")


class ShortIds(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, slice_id=f"z{item.z_index}")


class OnePlace(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, z_index=0)


class GreyValues(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=((item.hu + 1024) // 16).astype(np.int16))


class StoredValues(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=(item.hu + 1024).astype(np.int16))


class OnlyAir(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=np.minimum(item.hu, -900).astype(np.int16))


class FarTooLow(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=np.where(item.hu < -900, -32768, item.hu).astype(np.int16))


class LabelsAreClasses(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, label=item.label * 3)


class LabelsTurned(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, label=1 - item.label)


class MasksElsewhere(Sound):
    def changed(self, item: CTSlice) -> CTSlice:
        assert item.mask is not None
        mask = np.zeros_like(item.mask)
        mask[:4, :4] = item.mask.max()
        return replace(item, mask=mask)


class Thorax(Sound):
    """Lungs within a body, and masks on them."""

    structures: Any = {1: "lung"}

    def changed(self, item: CTSlice) -> CTSlice:
        rows, columns = (np.mgrid[:64, :64] - 32) / 32
        noise = np.random.default_rng(item.z_index).normal(0, 20, (64, 64))
        body = (columns / 0.9) ** 2 + (rows / 0.75) ** 2 < 1
        lungs = ((np.abs(columns) - 0.4) / 0.28) ** 2 + (rows / 0.5) ** 2 < 1
        if not item.label:
            lungs[:] = False
        hu = np.where(lungs, -850, np.where(body, 40, -1000)) + noise
        return replace(item, hu=hu.astype(np.int16), mask=self.placed(lungs.astype(np.uint8)))

    def placed(self, mask: Any) -> Any:
        return mask


class LungsElsewhere(Thorax):
    def placed(self, mask: Any) -> Any:
        return np.roll(mask, 24, axis=0)


class SoftWindow(Sound):
    synthetic = False

    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=item.hu.clip(-160, 100).astype(np.int16))


class NotMadeUp(Sound):
    synthetic = False


class OtherDraw(Sound):
    numbers = itertools.count()

    def changed(self, item: CTSlice) -> CTSlice:
        return replace(item, hu=item.hu + np.int16(next(self.numbers) % 3))


FAULTS: list[tuple[str, type[Any], str]] = [
    ("synthetic", NotSaying, "synthetic is 'maybe'"),
    ("structures", NamesTheBackground, "structures has [0]"),
    ("structures", ListsStructures, "structures is list"),
    ("defaults", MisspeltDefault, "It sets hog.image_syze, but hog has no such option"),
    ("defaults", DefaultOutOfBounds, "simsiam-baseline.epochs does not take 0"),
    ("sources", FromASet, "other scans or another order"),
    ("sources", SameId, "ids of scans come more than once, 'v0'"),
    ("sources", QueriesFirst, "Queries come before"),
    ("sources", NoQueries, "3 scans for the gallery and 0 for the queries"),
    ("sources", OtherSplit, "the split ['train']"),
    ("sources", SourcesRaise, "subject.sources raised KeyError: 'scans'"),
    ("patients_apart", SamePatients, "3 patients are on both sides, 'p0' for one"),
    ("fingerprints", NoJson, "fingerprint of v0 is no JSON"),
    ("fingerprints", NamesNothing, "v1 and v0 have one fingerprint"),
    ("pickles", HoldsALambda, "cannot be handed to another process"),
    ("read", ReadRaises, "subject.read(v0) raised KeyError: 'affine' (at test_benchmarks.py:"),
    ("read", ReadsNothing, "no slices for v0"),
    ("read", Stranger, "of 'somebody', its source"),
    ("slice_ids", ShortIds, "4 ids come in several scans, 'z0' for one"),
    ("positions", OnePlace, "Two slices of v0 have the same z_index"),
    ("hounsfield_units", GreyValues, "nothing below 0 HU"),
    ("hounsfield_units", StoredValues, "nothing below 0 HU"),
    ("hounsfield_units", OnlyAir, "0 % of v0 lies in -200 to 300 HU"),
    ("hounsfield_units", FarTooLow, "v0 has -32768 to "),
    ("hounsfield_units", SoftWindow, "HU are cut off: v0 at -160 HU and 100 HU"),
    ("masks", LabelsAreClasses, "Labels are [0, 3]"),
    ("masks", LabelsTurned, "have a label that their mask contradicts, 'v0_0'"),
    ("mask_alignment", MasksElsewhere, "100 % of the masks' pixels are air"),
    ("mask_alignment", LungsElsewhere, "of the masks' pixels are air around the body"),
    ("read_again", OtherDraw, "Read again, v0 gives other slices"),
]


@pytest.mark.parametrize(
    ("check", "faulty", "found"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_found(caught: Any, check: str, faulty: type[Any], found: str) -> None:
    caught("benchmark", check, faulty, found)


def test_a_sound_benchmark_passes(every_verdict: Any) -> None:
    verdicts = every_verdict("benchmark", Sound)
    assert {verdict.outcome for verdict in verdicts.values()} == {"passed"}
    assert verdicts["read"].found == "16 slices of 4 of its 6 scans"


def test_data_that_are_not_there_are_told_once_and_are_no_fault(every_verdict: Any) -> None:
    verdicts = every_verdict("benchmark", NoFolder)
    assert {verdict.outcome for verdict in verdicts.values()} == {"passed", "skipped"}
    assert verdicts["sources"].found == "Its scans are not here: There is no folder 'scans'."
    assert verdicts["sources"].remedy == "Give one with --data."
    assert (verdicts["read"].found, verdicts["read"].remedy) == ("Its scans are not here: see sources.", "")


def test_one_that_was_not_told_where_its_data_are_is_no_fault(every_verdict: Any) -> None:
    class NotTold(NoFolder):
        @property
        def synthetic(self) -> Any:
            raise UsageError("It needs scans.", "Give --data.")

        def sources(self) -> Sequence[Source]:
            raise UsageError("It needs scans.", "Give --data.")

    verdicts = every_verdict("benchmark", NotTold)
    assert {verdict.outcome for verdict in verdicts.values()} == {"passed", "skipped"}
    assert verdicts["synthetic"].found == "Its scans are not here: see sources."
    assert verdicts["sources"].remedy == "Give --data."


def test_scans_that_cannot_be_listed_are_told_once(every_verdict: Any) -> None:
    verdicts = every_verdict("benchmark", SourcesRaise)
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "failed"] == ["sources"]
    assert verdicts["read"].found == "Its scans cannot be listed: see sources."


def test_masks_of_lungs_lie_on_the_body(every_verdict: Any) -> None:
    verdicts = every_verdict("benchmark", Thorax)
    assert [str(verdict) for verdict in verdicts.values() if verdict.outcome != "passed"] == []
    assert verdicts["mask_alignment"].found.startswith("0.0 % of the masks' pixels are air around the body")


def test_hu_that_are_cut_off_are_noted_of_a_program_s_scans(judge: Any) -> None:
    class Synthetic(SoftWindow):
        synthetic = True

    verdict = judge("benchmark", "hounsfield_units", Synthetic)
    assert verdict.outcome == "passed"
    assert "cut off: v0 at -160 HU and 100 HU" in verdict.found
    assert "cut off" not in judge("benchmark", "hounsfield_units", NotMadeUp).found
    assert judge("benchmark", "hounsfield_units", NotMadeUp).outcome == "passed"


def test_values_without_a_name_are_told_by_number(judge: Any) -> None:
    class Unnamed(Sound):
        structures: Any = {}

    assert judge("benchmark", "mask_values", Unnamed).found == "no names; by number only: 1"
    assert judge("benchmark", "mask_values", Sound).found == "1 organ"
