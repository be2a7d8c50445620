"""Tests of plugins, to inherit from in pytest, and what hand-worked cases are made with.

A plugin's test is a class that names it::

    from cbirbench.testing import ExtractorConformance

    class TestHog(ExtractorConformance):
        plugin = "hog"
        options = {"image_size": "64"}

Each check of `cbirbench plugins check` is then one test, and its verdict the message of a failure. Importing
this module needs no pytest.

Scans that a benchmark is to read are made by a fixture, which sets the options::

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
    """

    kind: ClassVar[Kind] = "extractor"


class AugmentationConformance(_Conformance):
    """An augmentation keeps to `cbirbench.interfaces.Augmentation`."""

    kind: ClassVar[Kind] = "augmentation"


class MetricConformance(_Conformance):
    """A metric keeps to `cbirbench.interfaces.Metric`, and gives what was worked out by hand.

    Attributes:
        hand_cases: Pairs of evidence, see `evidence`, and the values it gives, one a query; at least one.
    """

    kind: ClassVar[Kind] = "metric"
    hand_cases: ClassVar[Sequence[tuple[Evidence, Sequence[float]]]] = ()

    def test_hand_cases(self) -> None:
        """The values that the author worked out by hand."""
        self.judge(metrics.hand_worked(self.hand_cases))


class BenchmarkConformance(_Conformance):
    """A benchmark keeps to `cbirbench.interfaces.Benchmark`.

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
