"""Every check of augmentations catches one that is wrong in just that way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cbirbench.interfaces import Options, Plugin, option
from cbirbench.windows import wide_window_images


class SoundOptions(Options):
    chance: float = option(0.5, description="Probability that a view is mirrored.", ge=0, le=1)
    log_every: int = option(1, description="How often it says something.", result=False, ge=1)


class Sound(Plugin):
    """Mirrors each view of a slice or not."""

    interface_version = 1
    options_type = SoundOptions

    def fingerprint(self) -> Mapping[str, Any]:
        return self.options.shaping()

    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"shade": torch.rand(count, 2, generator=generator)}

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        images = torch.cat([wide_window_images(item.unsqueeze(0), size) for item in hu])
        first, second = parameters["shade"].to(images.device).unbind(1)
        return images * first.view(-1, 1, 1, 1), images * second.view(-1, 1, 1, 1)


class DrawsNothing(Sound):
    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {}

    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return super().apply(hu, {"shade": torch.ones(len(hu), 2)}, size)


class OneRowForAll(Sound):
    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"shade": torch.rand(1, 2, generator=generator)}


class Lists(Sound):
    def sample(self, count: int, generator: torch.Generator) -> Any:
        return {"shade": [0.5] * count}


class NoMapping(Sound):
    def sample(self, count: int, generator: torch.Generator) -> Any:
        return torch.rand(count, 2, generator=generator)


class GlobalDraws(Sound):
    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"shade": torch.rand(count, 2)}


class OwnDraws(Sound):
    numbers = itertools.count()

    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return super().sample(count, torch.Generator().manual_seed(next(self.numbers)))


class OneView(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return super().apply(hu, parameters, size)[:1]


class NativeSize(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return super().apply(hu, parameters, 48)


class Doubles(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return tuple(view.double() for view in super().apply(hu, parameters, size))


class TooBright(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        first, second = super().apply(hu, parameters, size)
        return first, second * 3


class NotANumber(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        first, second = super().apply(hu, parameters, size)
        return first, second * float("nan")


class ApplyRaises(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        raise LookupError("crop")


class DrawsInApply(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return super().apply(hu, {"shade": torch.rand(len(hu), 2)}, size)


class RemembersDraws(Sound):
    drawn: Any = None

    def sample(self, count: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        self.drawn = super().sample(count, generator)
        return {"row": torch.arange(count)}

    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        drawn = self.drawn or {"shade": torch.ones(len(hu), 2)}
        return super().apply(hu, {name: tensor[: len(hu)] for name, tensor in drawn.items()}, size)


class BatchMean(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        first, second = super().apply(hu, parameters, size)
        return (first - first.mean() / 9).clamp(0, 1), second


class ClampsInPlace(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        return super().apply([item.clamp_(-200, 300) for item in hu], parameters, size)


class ChangesParameters(Sound):
    def apply(self, hu: Any, parameters: Any, size: int) -> Any:
        parameters["shade"].mul_(0.9)
        return super().apply(hu, parameters, size)


class Counts(Sound):
    numbers = itertools.count()

    def fingerprint(self) -> Mapping[str, Any]:
        return {"number": next(self.numbers)}


class NamesNothing(Sound):
    def fingerprint(self) -> Mapping[str, Any]:
        return {}


class HiddenOptions(SoundOptions):
    def shaping(self) -> dict[str, Any]:
        return {}


class HidesChance(NamesNothing):
    options_type = HiddenOptions


class NamesTheLog(Sound):
    def fingerprint(self) -> Mapping[str, Any]:
        return self.options.model_dump()


class HoldsALambda(Sound):
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.window = lambda hu: hu


FAULTS: list[tuple[str, type[Any], str]] = [
    ("parameters", OneRowForAll, "sample(5) gives 'shade' of shape (1, 2)"),
    ("parameters", Lists, "'shade': list"),
    ("parameters", NoMapping, "sample gives Tensor"),
    ("draws", GlobalDraws, "sample changes torch's random state"),
    ("draws", OwnDraws, "The same state of the generator gives other draws"),
    ("views", OneView, "apply gives 1 views"),
    ("views", NativeSize, "View 1 of 5 slices at 33 px is torch.float32 (5, 1, 48, 48)"),
    ("views", Doubles, "torch.float64"),
    ("views", TooBright, "View 2 lies in 0.."),
    ("views", NotANumber, "View 2 lies in nan..nan"),
    ("views", ApplyRaises, "subject.apply raised LookupError: crop (at test_augmentations.py:"),
    ("replay", DrawsInApply, "Applied twice"),
    ("replay", RemembersDraws, "Parameters from a file give other views"),
    ("rows_apart", BatchMean, "depend on the others of its batch"),
    ("input_unchanged", ClampsInPlace, "changes the HU"),
    ("input_unchanged", ChangesParameters, "changes the parameters"),
    ("input_unchanged", DrawsInApply, "apply changes torch's random state"),
    ("fingerprint", Counts, "different fingerprints"),
    ("option_keys", NamesTheLog, "changes with log_every"),
    ("option_keys", HidesChance, "With chance=0.25 trainings are kept under the same key as with 0.5"),
    ("pickles", HoldsALambda, "It cannot be handed to another process"),
]


@pytest.mark.parametrize(
    ("check", "faulty", "found"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_found(caught: Any, check: str, faulty: type[Any], found: str) -> None:
    caught("augmentation", check, faulty, found)


@pytest.mark.parametrize("sound", [Sound, DrawsNothing, NamesNothing])
def test_a_sound_augmentation_passes(every_verdict: Any, sound: type[Any]) -> None:
    verdicts = every_verdict("augmentation", sound)
    assert {str(verdict) for verdict in verdicts.values() if verdict.outcome != "passed"} <= {
        "device skipped: There is no GPU here."
    }


def test_one_that_draws_nothing_is_told_so(judge: Any) -> None:
    assert judge("augmentation", "draws", DrawsNothing).found.startswith("nothing is drawn")
    assert judge("augmentation", "parameters", DrawsNothing).found == "nothing is drawn"


def test_views_that_cannot_be_made_are_told_once(every_verdict: Any) -> None:
    verdicts = every_verdict("augmentation", ApplyRaises)
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "failed"] == ["views"]
    assert verdicts["replay"].found == "It makes no two views: see views."


@pytest.mark.gpu
def test_leaving_the_gpu_is_found(judge: Any) -> None:
    class ToCpu(Sound):
        def apply(self, hu: Any, parameters: Any, size: int) -> Any:
            return super().apply([item.cpu() for item in hu], parameters, size)

    assert "are not there" in judge("augmentation", "device", ToCpu).found
    assert judge("augmentation", "device", Sound).outcome == "passed"
