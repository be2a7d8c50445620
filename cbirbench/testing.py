"""Tests of plugins, to inherit from in pytest, and what hand-worked cases are made with.

A plugin's test is a class that names it:

    from cbirbench.testing import ExtractorConformance

    class TestHog(ExtractorConformance):
        plugin = "hog"
        options = {"image_size": "64"}

Each check of `cbirbench plugins check` is then one test, and its verdict the message of a failure. Importing
this module needs no pytest.

Scans that a benchmark is to read are made by a fixture, which sets the options:

    @pytest.fixture(scope="class")
    def scans(request, tmp_path_factory):
        request.cls.options = {"data": str(write_scans(tmp_path_factory.mktemp("scans")))}

    @pytest.mark.usefixtures("scans")
    class TestMine(BenchmarkConformance):
        plugin = "mine"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from cbirbench.conformance import augmentations, benchmarks, extractors, metrics
from cbirbench.conformance.evidence import evidence
from cbirbench.conformance.hand_cases import hand_worked
from cbirbench.conformance.making import flat_slices, made_slices
from cbirbench.conformance.subjects import Subject, subject_of
from cbirbench.conformance.verdicts import Check, judged
from cbirbench.interfaces import Evidence
from cbirbench.registry import Kind

__all__ = [
    "AugmentationConformance",
    "BenchmarkConformance",
    "ExtractorConformance",
    "MetricConformance",
    "evidence",
    "flat_slices",
    "made_slices",
]


class _Conformance:
    """What the classes share.

    Attributes:
        plugin: The plugin's name, as its entry point says it; the distribution must be installed.
        options: Its options as one would type them after ``--set``: ``{"image_size": "64"}``. A name with a
            dot belongs to another plugin, an augmentation that the extractor asks for: ``"hu-clip.jitter"``.
    """

    kind: ClassVar[Kind]
    plugin: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    def subject(self) -> Subject:
        """The plugin with its options, made once for all tests of a class."""
        wanted = (self.plugin, dict(self.options))
        kept = vars(type(self)).get("_kept")
        if kept is None or kept[0] != wanted:
            texts = [
                f"{name if '.' in name else f'{self.plugin}.{name}'}={value}"
                for name, value in self.options.items()
            ]
            kept = (wanted, self._made(texts))
            type(self)._kept = kept  # type: ignore[attr-defined]
        subject: Subject = kept[1]
        return subject

    def _made(self, texts: Sequence[str]) -> Subject:
        return subject_of(self.kind, self.plugin, texts)

    def judge(self, check: Check) -> None:
        """Run one check: skip where it does not apply, fail with its verdict."""
        import pytest

        verdict = judged(check, self.subject())
        if verdict.outcome == "skipped":
            pytest.skip(verdict.found)
        if verdict.outcome == "failed":
            pytest.fail(str(verdict), pytrace=False)


class ExtractorConformance(_Conformance):
    """An extractor keeps to `cbirbench.interfaces.Extractor`, and to whatever of it it opts in to.

    It gets the options that the phantom benchmark sets for it, then `options`. Keep trainings small:
    ``options = {"epochs": "2"}``.

    Its tests, each with ``test_`` before its name:

    - as of every plugin: interface, options, names, options_travel, made, light_import, offline_import,
      quiet_import
    - of what it hands over: images, embeddings, air, extreme_hu, input_unchanged, contrast, whole_range,
      flat_images, sizes
    - of explanations: masked_images, embed_alone, explanation_twin
    - of what an embedding depends on: batch_size, order, repeats, deterministic, global_state, device
    - of what it is cached under: fingerprint, fingerprint_elsewhere, option_keys, options_beside_results
    - of training: training_cost, training, training_repeats, training_watched, training_blind,
      training_weights
    """

    kind: ClassVar[Kind] = "extractor"


class AugmentationConformance(_Conformance):
    """An augmentation keeps to `cbirbench.interfaces.Augmentation`.

    Its tests, each with ``test_`` before its name:

    - as of every plugin: interface, options, names, options_travel, made, light_import, offline_import,
      quiet_import
    - of draws and views: parameters, draws, views, replay, rows_apart, input_unchanged, pickles, device
    - of what trainings on its views are kept under: fingerprint, option_keys
    """

    kind: ClassVar[Kind] = "augmentation"


class MetricConformance(_Conformance):
    """A metric keeps to `cbirbench.interfaces.Metric`, and gives what was worked out by hand.

    Its tests, each with ``test_`` before its name:

    - as of every plugin: interface, options, names, options_travel, made, light_import, offline_import,
      quiet_import
    - of its values: declared, values, single_query, undefined, queries_apart, best_and_worst, hand_cases
    - of what it looks at: evidence_unchanged, needs, depth, by_chance, pickles

    Attributes:
        hand_cases: Pairs of evidence, see `evidence`, and the values it gives, one a query; at least one.
    """

    kind: ClassVar[Kind] = "metric"
    hand_cases: ClassVar[Sequence[tuple[Evidence, Sequence[float]]]] = ()

    def test_hand_cases(self) -> None:
        """The values that the author worked out by hand."""
        self.judge(hand_worked(self.hand_cases))


class BenchmarkConformance(_Conformance):
    """A benchmark keeps to `cbirbench.interfaces.Benchmark`.

    Its tests, each with ``test_`` before its name:

    - as of every plugin: interface, options, names, options_travel, made, light_import, offline_import,
      quiet_import
    - of what it declares: synthetic, structures, defaults
    - of its scans: sources, patients_apart, fingerprints, pickles
    - of their slices: read, slice_ids, positions, hounsfield_units, masks, mask_alignment, mask_values,
      read_again

    Attributes:
        scans: How many scans of each side are read; reading many would take long.
    """

    kind: ClassVar[Kind] = "benchmark"
    scans: ClassVar[int] = 2

    def _made(self, texts: Sequence[str]) -> Subject:
        return subject_of(self.kind, self.plugin, texts, scans=self.scans)


def _test(check: Check) -> Callable[[_Conformance], None]:
    def test(self: _Conformance) -> None:
        self.judge(check)

    test.__name__, test.__doc__ = f"test_{check.__name__}", check.__doc__
    return test


for _class, _checks in (
    (ExtractorConformance, extractors.CHECKS),
    (AugmentationConformance, augmentations.CHECKS),
    (MetricConformance, metrics.CHECKS),
    (BenchmarkConformance, benchmarks.CHECKS),
):
    for _check in _checks:
        setattr(_class, f"test_{_check.__name__}", _test(_check))
