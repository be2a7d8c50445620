"""`cbirbench.testing`: what authors of plugins inherit from."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cbirbench import testing
from cbirbench.conformance.inspection import CHECKS
from cbirbench.testing import (
    AugmentationConformance,
    BenchmarkConformance,
    ExtractorConformance,
    MetricConformance,
    evidence,
    flat_slices,
    made_slices,
)

CLASSES = (ExtractorConformance, AugmentationConformance, MetricConformance, BenchmarkConformance)


class OneHandCase(MetricConformance):
    plugin = "map"
    options = {"k": "2"}
    hand_cases = [(evidence(query_labels=[1], gallery_labels=[1, 0]), [0.75])]


@pytest.mark.parametrize("made", CLASSES)
def test_each_check_is_one_test_that_says_what_it_tests(made: Any) -> None:
    tests = {name for name in dir(made) if name.startswith("test_")}
    expected = {f"test_{check.__name__}" for check in CHECKS[made.kind]}
    assert tests == expected | ({"test_hand_cases"} if made is MetricConformance else set())
    assert len(expected) == len(CHECKS[made.kind])
    assert all(getattr(made, name).__doc__ for name in tests)


@pytest.mark.parametrize("made", CLASSES)
def test_the_docstring_lists_every_test(made: Any) -> None:
    listed = re.findall(r"^- (?:as )?of [\w ']+: ((?:\w+,?\s+)+)", f"{inspect.getdoc(made)}\n", re.MULTILINE)
    names = [name for line in listed for name in re.findall(r"\w+", line)]
    assert sorted(names) == sorted(n.removeprefix("test_") for n in dir(made) if n.startswith("test_"))
    assert "::" not in f"{made.__doc__}{testing.__doc__}"


def test_a_check_that_passes_is_a_test_that_passes() -> None:
    OneHandCase().test_hand_cases()
    OneHandCase().test_declared()  # type: ignore[attr-defined]
    assert OneHandCase().subject().options.k == 2


def test_a_verdict_is_the_message_of_a_failure() -> None:
    class WrongByHand(OneHandCase):
        hand_cases = [(evidence(query_labels=[1], gallery_labels=[1, 0]), [0.5])]

    class NoneByHand(OneHandCase):
        hand_cases = ()

    with pytest.raises(
        pytest.fail.Exception, match=r"hand-cases failed: Case 1 gives 0\.75, by hand it is 0\.5"
    ):
        WrongByHand().test_hand_cases()
    with pytest.raises(pytest.fail.Exception, match="What to do: Give at least one"):
        NoneByHand().test_hand_cases()


def test_a_check_that_does_not_apply_skips() -> None:
    class Hog(ExtractorConformance):
        plugin = "hog"

    with pytest.raises(pytest.skip.Exception, match="not Trainable"):
        Hog().test_training()  # type: ignore[attr-defined]


def test_a_subject_is_made_once_a_class_and_anew_for_other_options() -> None:
    class Other(OneHandCase):
        options = {"k": "3"}

    first = OneHandCase().subject()
    assert OneHandCase().subject() is first
    assert Other().subject() is not first
    assert Other().subject().options.k == 3
    Other.options = {"k": "4"}  # as a fixture does that makes data
    assert Other().subject().options.k == 4


def test_options_of_an_augmentation_reach_it() -> None:
    class Ours(ExtractorConformance):
        plugin = "ours"
        options = {"backbone": "test_resnet", "weights": "random", "image_size": "32", "hu-clip.flip": "0.25"}

    assert Ours().subject().one.fingerprint()["views"]["flip"] == 0.25


def test_importing_it_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import cbirbench.testing; print('imported')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "imported\n", done.stderr


def test_evidence_has_defaults_for_what_is_not_given() -> None:
    made = evidence(query_labels=[1, 0], gallery_labels=[1, 0, 1])
    assert made.neighbours.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert made.distances.tolist() == [[0.0, 1.0, 2.0]] * 2
    assert made.maps == made.masks == [None, None]
    assert (made.query_embeddings.shape, made.gallery_embeddings.shape) == ((2, 2), (3, 2))
    explained = evidence(maps=[[[0.5, 1.0]], None], masks=[[[True, False]], None])
    assert explained.query_labels.tolist() == [1, 1]
    assert explained.maps[0] is not None and explained.maps[0].dtype == np.float32
    assert explained.masks[0] is not None and explained.masks[0].dtype == np.bool_
    assert evidence(neighbours=[[2], [0]], gallery_labels=[0, 1, 0]).neighbours.tolist() == [[2], [0]]


def test_made_slices_are_the_same_every_time_and_hold_what_they_say() -> None:
    slices = made_slices(6, side=48, seed=3)
    assert slices.fingerprint() == made_slices(6, side=48, seed=3).fingerprint()
    assert slices.fingerprint() != made_slices(6, side=48, seed=4).fingerprint()
    assert slices.labels.tolist() == [0, 1] * 3
    for item in slices:
        assert item.hu.shape == (48, 48)
        assert bool(item.label) == item.shows_target
        assert item.relative_z is not None
        assert item.hu.min() < -950 and item.hu.max() > 500
    organ = slices[1]
    assert organ.mask is not None
    assert abs(organ.hu[organ.mask > 0].mean() - 110) < 5
    assert [int(item.hu[0, 0]) for item in flat_slices([-1000, 60], side=8)] == [-1000, 60]


def test_what_is_public_is_there() -> None:
    assert set(testing.__all__) == {
        *(made.__name__ for made in CLASSES),
        "evidence",
        "flat_slices",
        "made_slices",
    }
