"""Every check of extractors catches one that is wrong in just that way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cbirbench.errors import UsageError
from cbirbench.interfaces import Explainable, Located, Options, Plugin, option
from cbirbench.windows import wide_window_images


class SoundOptions(Options):
    scale: float = option(1.0, description="What values are multiplied by.", gt=0)
    log_every: int = option(1, description="How often it says something.", result=False, ge=1)


class Sound(Plugin, Explainable):
    """Means of 8 x 8 parts of the wide-window image."""

    interface_version = 1
    options_type = SoundOptions

    def prepare(self, hu: Tensor) -> Tensor:
        return wide_window_images(hu, 16)

    def embed(self, images: Tensor) -> Tensor:
        return self.options.scale * torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)

    def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
        return self.embed


class Positions(Sound, Located):
    """Where a slice lies, whatever it shows."""

    def prepare_at(self, hu: Tensor, positions: Tensor) -> Tensor:
        return positions.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()


class Raises(Sound):
    def __init__(self, options: Options, context: Any) -> None:
        raise KeyError("weights")


class Refuses(Sound):
    def __init__(self, options: Options, context: Any) -> None:
        raise UsageError("There is no file 'w'.", "Give one with --set subject.weights=FILE.")


class PrepareRaises(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        raise IndexError("no such row")


class EndsPython(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        raise SystemExit(3)


class TakesTooMuch(Sound):
    def prepare(self, hu: Tensor, spacing: Tensor) -> Tensor:  # type: ignore[override]
        return super().prepare(hu)


class Undescribed(Options):
    size: int = option(3, description="  ")


class OutOfBounds(Options):
    size: int = option(3, description="Side.", ge=4)


class Untyped(Options):
    size: Any = option(3, description="Side.")


class ProfileOutOfBounds(Options):
    size: int = option(3, description="Side.", le=4, profiles={"released-code": 5})


class Required(Options):
    size: int = option(..., description="Side.")


class OwnFamily(Options):
    family = "run"


def with_options(chosen: type[Options]) -> type[Sound]:
    class Other(Sound):
        options_type = chosen

    return Other


def unpicklable() -> type[Sound]:
    class Local(Options):
        size: int = option(3, description="Side.")

    return with_options(Local)


class Doubles(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return super().prepare(hu).double()


class GreyValues(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return super().prepare(hu) * 255


class LosesOne(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return super().prepare(hu)[1:]


class DoubleVectors(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images).double()


class KeepsGradients(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * torch.ones(1, requires_grad=True)


class Constant(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 3)


class Maps(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return images


class WhiteAir(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return 1 - super().prepare(hu)


class WrapsAround(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return ((hu + 1024) / 4095).clamp(max=1).unsqueeze(1)  # int16 until it is divided


class ClampsInPlace(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return super().prepare(hu.clamp_(-200, 300))


class ScalesInPlace(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images.mul_(0.5))


class TakesZeroToOne(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return hu.float().clamp(0, 1).unsqueeze(1)


class WholeInt16(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return ((hu.float() + 1024) / 65536).clamp(0, 1).unsqueeze(1)


class Bytes(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return hu.to(torch.uint8).float().div(255).unsqueeze(1)


class Takes255(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return (hu.float() / 255).clamp(0, 1).unsqueeze(1)


class Standardises(Sound):
    def embed(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)


class DividesByMean(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) / images.mean((1, 2, 3)).unsqueeze(1)


class NativeSize(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        return ((hu.float() + 200) / 500).clamp(0, 1).unsqueeze(1)

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class BatchStatistics(Sound):
    def embed(self, images: Tensor) -> Tensor:
        vectors = super().embed(images)
        return vectors - vectors.mean(0)


class Numbered(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) + torch.arange(len(images)).unsqueeze(1) / 100


class Dropout(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return torch.nn.functional.dropout(super().embed(images), 0.2)


class RandomWeights(Sound):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.matrix = torch.rand(16, 4)

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) @ self.matrix


class Seeds(Sound):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        torch.manual_seed(0)


class DrawsFromNumpy(Sound):
    def prepare(self, hu: Tensor) -> Tensor:
        np.random.rand()
        return super().prepare(hu)


class NoGradients(Sound):
    def embed(self, images: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return super().embed(images)


class WiderDefault(Sound):
    def embed(self, images: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return super().embed(images)


class NoJson(Sound):
    def fingerprint(self) -> Mapping[str, Any]:
        return {"weights": torch.zeros(2)}


class NoMapping(Sound):
    def fingerprint(self) -> Any:
        return "sha256"


class Counts(Sound):
    numbers = itertools.count()

    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.number = next(self.numbers)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"number": self.number}


class Remembers(Sound):
    seen = 0

    def embed(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super().embed(images)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"seen": self.seen}


class NamesTheLog(Sound):
    def fingerprint(self) -> Mapping[str, Any]:
        return {"log_every": self.options.log_every}


class HidesScale(SoundOptions):
    def shaping(self) -> dict[str, Any]:
        return {}


class LogMatters(Sound):
    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) + self.options.log_every


class OtherTwin(Sound):
    def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
        return lambda images: self.embed(images) * 1.01


class ShuffledTwin(Sound):
    """As uncentred cosine would let pass: another slice's vector, with a large part in common."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) + 1

    def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
        return lambda images: self.embed(images).roll(int(precision == "bfloat16"), dims=0)


class HalfTwin(Sound):
    def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
        return lambda images: self.embed(images).bfloat16()


class TwinTakesOver(Sound):
    rounded = False

    def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
        self.rounded = precision == "bfloat16"
        return lambda images: self.embed(images).float()

    def embed(self, images: Tensor) -> Tensor:
        vectors = super().embed(images)
        return vectors.bfloat16().float() if self.rounded else vectors


class UsesLastHU(Sound):
    """Explains nothing: what it embeds is what `prepare` saw last."""

    seen: Any = None

    def prepare(self, hu: Tensor) -> Tensor:
        self.seen = super().prepare(hu)
        return self.seen

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(self.seen if len(self.seen) == len(images) else images)


class RecognisesImages(Sound):
    """Finds the HU of an image again by its first bytes, and ignores what is hidden."""

    known: Any = None

    def embed(self, images: Tensor) -> Tensor:
        self.known = {} if self.known is None else self.known
        if images.any():
            self.known[len(images)] = super().embed(images)
        return self.known[len(images)]


class BesideAConstant(Sound):
    """Batch statistics beside a long part that all slices have in common."""

    def embed(self, images: Tensor) -> Tensor:
        vectors = super().embed(images)
        return torch.cat([torch.full((len(vectors), 1), 1e4), vectors - vectors.mean(0)], dim=1)


class LowersPrecision(Sound):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True


class FlushesDenormals(Sound):
    def embed(self, images: Tensor) -> Tensor:
        torch.set_flush_denormal(True)
        return super().embed(images)


WEIGHTS = Path(__file__).parents[2] / "pyproject.toml"


class ForgetsWeights(Sound):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.scale = torch.tensor(float(len(WEIGHTS.read_bytes())))


class Wrapped:
    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = {"last": torch.nn.Linear(2, 2)}


class ForgetsDeeper(Sound):
    def __init__(self, options: Any, context: Any) -> None:
        super().__init__(options, context)
        self.network = Wrapped()


class NamesWeights(ForgetsWeights):
    def fingerprint(self) -> Mapping[str, Any]:
        return {"weights": "sha256 of 3"}


FAULTS: list[tuple[str, type[Any], str]] = [
    ("interface", TakesTooMuch, "prepare cannot be called with 1 arguments"),
    ("made", Raises, "subject(options) raised KeyError: 'weights' (at test_extractors.py:"),
    ("made", Refuses, "There is no file 'w'."),
    ("options", with_options(Undescribed), "size has no description"),
    ("options", with_options(OutOfBounds), "does not take 3"),
    ("options", with_options(ProfileOutOfBounds), "does not take 5"),
    ("options", with_options(Untyped), "size may be anything"),
    ("names", with_options(OwnFamily), "['run'] is cbirbench's own name"),
    ("options_travel", unpicklable(), "cannot be handed to another process"),
    ("images", PrepareRaises, "subject.prepare failed: IndexError: no such row (at test_extractors.py:"),
    ("images", Doubles, "prepare gives torch.float64"),
    ("images", GreyValues, "in 0..226"),
    ("images", LosesOne, "got Tensor of shape (3, 1, 16, 16)"),
    ("embeddings", DoubleVectors, "torch.float64"),
    ("embeddings", KeepsGradients, "requires_grad"),
    ("embeddings", Constant, "All 8 different slices have the very same embedding"),
    ("embeddings", Maps, "one row an image, got Tensor of shape (8, 1, 16, 16)"),
    ("air", WhiteAir, "images of up to 1"),
    ("extreme_hu", WrapsAround, "float images in 0..1"),
    ("input_unchanged", ClampsInPlace, "changes the HU"),
    ("input_unchanged", ScalesInPlace, "changes the images"),
    ("contrast", TakesZeroToOne, "soft tissue looks all the same"),
    ("contrast", WholeInt16, "soft tissue looks all the same"),
    ("whole_range", Bytes, "cut to 8 bits"),
    ("whole_range", Takes255, "read as grey values"),
    ("flat_images", Standardises, "NaN or infinite values in"),
    ("masked_images", DividesByMean, "Images all zero: "),
    ("sizes", NativeSize, "embeddings of [4096, 9216, 16900] values"),
    ("batch_size", BatchStatistics, "batches of 1, 2 and 3"),
    ("batch_size", BesideAConstant, "of the spread between slices"),
    ("embed_alone", UsesLastHU, "the same images have other embeddings"),
    ("embed_alone", RecognisesImages, "all zero) have the embeddings of the whole ones"),
    ("order", Numbered, "reverse order"),
    ("repeats", Dropout, "three times in a batch"),
    ("deterministic", RandomWeights, "Two instances"),
    (
        "global_state",
        LowersPrecision,
        "making it changes torch's float32 matmul precision and cudnn.benchmark",
    ),
    ("global_state", FlushesDenormals, "embed changes the treatment of numbers next to zero"),
    ("global_state", DrawsFromNumpy, "prepare changes numpy's random state"),
    ("global_state", NoGradients, "embed changes torch's gradient mode"),
    ("global_state", WiderDefault, "embed changes torch's default dtype"),
    ("fingerprint", NoJson, "is no JSON"),
    ("fingerprint", ForgetsWeights, "It holds weights (scale), reads "),
    ("fingerprint", ForgetsDeeper, "It holds weights (network), and its fingerprint is empty"),
    ("fingerprint", NoMapping, "gives str"),
    ("fingerprint", Counts, "different fingerprints, in number"),
    ("fingerprint", Remembers, "Embedding changes the fingerprint, in seen"),
    ("option_keys", NamesTheLog, "With log_every=2 the cache key changes"),
    ("option_keys", with_options(HidesScale), "With scale=0.5 the cache key stays"),
    ("options_beside_results", LogMatters, "log_every=2 changes embeddings"),
    ("explanation_twin", OtherTwin, "of the spread between slices away from embed"),
    ("explanation_twin", ShuffledTwin, "Its twin at bfloat16 points elsewhere"),
    ("explanation_twin", HalfTwin, "gives torch.bfloat16"),
    ("explanation_twin", TwinTakesOver, "changed what embed gives"),
]


@pytest.mark.parametrize(
    ("check", "faulty", "found"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_found(caught: Any, check: str, faulty: type[Any], found: str) -> None:
    verdict = caught("extractor", check, faulty, found)
    assert "leave the plugin out" not in str(verdict)


def test_an_option_without_a_default_is_found(subject: Any) -> None:
    from cbirbench.conformance import declarations
    from cbirbench.conformance.verdicts import judged

    class NeedsSize(Sound):
        options_type = Required

    verdict = judged(declarations.options, subject("extractor", NeedsSize, size=3))
    assert verdict.found == "The option size has no default."


def test_faults_leave_no_trace_behind(judge: Any) -> None:
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    settings = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    for faulty in (Seeds, NoGradients, WiderDefault, LowersPrecision, FlushesDenormals):
        judge("extractor", "global_state", faulty)
    assert settings == (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark)
    assert (torch.tensor([1e-39]) * 0.1).item() > 0
    after = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_sound_extractor_passes(every_verdict: Any) -> None:
    verdicts = every_verdict("extractor", Sound)
    assert [str(verdict) for verdict in verdicts.values() if verdict.outcome == "failed"] == []
    skipped = {name for name, verdict in verdicts.items() if verdict.outcome == "skipped"}
    assert skipped - {"device"} == {name for name in verdicts if name.startswith("training")}


def test_one_that_knows_the_position_alone_is_not_asked_about_pixels(every_verdict: Any) -> None:
    verdicts = every_verdict("extractor", Positions)
    assert [str(verdict) for verdict in verdicts.values() if verdict.outcome == "failed"] == []
    for name in ("air", "contrast", "whole_range"):
        assert verdicts[name].found.startswith("It sees no pixels")


def test_a_window_for_another_organ_is_no_fault(judge: Any) -> None:
    class Lung(Sound):
        def prepare(self, hu: Tensor) -> Tensor:
            return wide_window_images(hu, 16, (-1000.0, -600.0))

    verdict = judge("extractor", "contrast", Lung)
    assert verdict.outcome == "skipped"
    assert "leaves soft tissue out" in verdict.found


def windowed(low: float, high: float) -> type[Sound]:
    class Window(Sound):
        def prepare(self, hu: Tensor) -> Tensor:
            return wide_window_images(hu, 16, (low, high))

    return Window


def test_a_window_of_dense_tissue_is_no_fault(judge: Any) -> None:
    verdict = judge("extractor", "contrast", windowed(130, 600))
    assert verdict.outcome == "skipped", verdict
    assert "it shows HU from about 140 to " in verdict.found


def test_a_window_that_starts_below_air_is_told_but_is_no_fault(judge: Any) -> None:
    verdict = judge("extractor", "air", windowed(-1350, 150))
    assert verdict.outcome == "passed", verdict
    assert "its window starts below air" in verdict.found
    assert judge("extractor", "air", windowed(-32768, 32767)).outcome == "failed"


def test_scaling_each_image_by_its_own_range_is_no_fault(judge: Any) -> None:
    class OwnRange(Sound):
        def prepare(self, hu: Tensor) -> Tensor:
            images = hu.float()
            low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
            return ((images - low) / (high - low).clamp(min=1)).unsqueeze(1)

    for check in ("contrast", "whole_range", "batch_size", "air"):
        assert judge("extractor", check, OwnRange).outcome == "passed", check
    assert judge("extractor", "whole_range", Bytes).outcome == "failed"


def test_a_network_may_draw_its_first_weights_when_it_is_made(judge: Any) -> None:
    class HasALayer(Sound):
        def __init__(self, options: Any, context: Any) -> None:
            super().__init__(options, context)
            self.layer = torch.nn.Linear(16, 4)
            torch.nn.init.ones_(self.layer.weight)

    for drawing in (HasALayer, Seeds):
        verdict = judge("extractor", "global_state", drawing)
        assert verdict.outcome == "passed", verdict
        assert verdict.found.endswith("making it draws from torch's random state")
    assert "making it" not in judge("extractor", "global_state", Sound).found


def test_one_that_names_its_weights_or_computes_them_may_hold_tensors(judge: Any) -> None:
    class Bank(Sound):
        def __init__(self, options: Any, context: Any) -> None:
            super().__init__(options, context)
            self.bank = torch.eye(3)

    assert judge("extractor", "fingerprint", NamesWeights).outcome == "passed"
    verdict = judge("extractor", "fingerprint", Bank)
    assert verdict.outcome == "passed", verdict
    assert verdict.found.endswith("; bank must follow from code and options alone")


def test_a_twin_that_rounds_is_no_fault(judge: Any) -> None:
    class Rounds(Sound):
        def for_explanation(self, precision: str) -> Callable[[Tensor], Tensor]:
            rounded = torch.bfloat16 if precision == "bfloat16" else torch.float32
            return lambda images: self.embed(images.to(rounded)).to(rounded).float()

    verdict = judge("extractor", "explanation_twin", Rounds)
    assert verdict.outcome == "passed", verdict
    assert verdict.found.startswith("float32: 0 apart; bfloat16: cosine ")


def test_methods_need_no_instance(judge: Any, subject: Any) -> None:
    from cbirbench.conformance import declarations

    class Static(Sound):
        @staticmethod
        def embed(images: Tensor) -> Tensor:  # type: ignore[override]
            return images.flatten(1)

        @classmethod
        def prepare(cls, hu: Tensor) -> Tensor:  # type: ignore[override]
            return wide_window_images(hu, 16)

    class TooFew(Sound):
        @staticmethod
        def embed() -> Tensor:  # type: ignore[override]
            raise NotImplementedError

    def fits(method: str, plugin_class: type[Any]) -> bool:
        return declarations.takes(plugin_class, method, 1)

    assert fits("embed", Static) and fits("prepare", Static) and fits("embed", Sound)
    assert not fits("embed", TooFew)


@pytest.mark.parametrize(
    ("annotation", "bounds", "told"),
    [(float | None, {}, True), (int, {}, True), (float | None, {"ge": 0}, False), (str | None, {}, False)],
)
def test_numbers_without_bounds_are_told(
    judge: Any, annotation: Any, bounds: dict[str, float], told: bool
) -> None:
    chosen = type(
        "Chosen",
        (Options,),
        {
            "__annotations__": {"size": annotation},
            "__module__": __name__,
            "size": option(None if annotation is not int else 3, description="Side.", **bounds),
        },
    )
    verdict = judge("extractor", "options", with_options(chosen))
    assert verdict.outcome == "passed", verdict
    assert verdict.found.endswith("without bounds: size") == told


def test_of_one_that_cannot_be_made_only_that_is_said(every_verdict: Any) -> None:
    verdicts = every_verdict("extractor", Raises)
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "failed"] == ["made"]
    assert verdicts["order"].found == "It could not be made."


def test_a_plugin_that_ends_python_is_a_verdict(judge: Any) -> None:
    verdict = judge("extractor", "images", EndsPython)
    assert verdict.outcome == "failed"
    assert "SystemExit: 3" in verdict.found


def test_a_name_of_another_kinds_plugin_is_found(judge: Any) -> None:
    assert "also reach the metric map of cbirbench" in judge("extractor", "names", Sound, "map").found
    assert "['random-map'] is" in judge("extractor", "names", Sound, "random-map").found
    assert judge("extractor", "names", Sound, "mine").outcome == "passed"


@pytest.mark.gpu
def test_leaving_the_gpu_is_found(judge: Any) -> None:
    class ToCpu(Sound):
        def embed(self, images: Tensor) -> Tensor:
            return super().embed(images).cpu()

    class DrawsThere(Sound):
        def embed(self, images: Tensor) -> Tensor:
            generator = torch.Generator(images.device).manual_seed(0)
            return super().embed(images) @ torch.rand(16, 4, generator=generator, device=images.device)

    assert "embed was given tensors on the GPU" in judge("extractor", "device", ToCpu).found
    assert "GPU and CPU differ" in judge("extractor", "device", DrawsThere).found
    assert judge("extractor", "device", Sound).outcome == "passed"
