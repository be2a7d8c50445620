from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cbirbench.errors import DataError, MissingError, PluginError
from cbirbench.extraction import embed_slices, embedded, guarded, prepared
from cbirbench.interfaces import Located
from cbirbench.slices import CTSlice, Slices, pad_to_square


class Sums:
    """Sums of the columns' thirds, so that a slice can be told from its vector; faults go in from outside."""

    options_type: Any = None

    def __init__(
        self,
        prepare: Callable[[Tensor], Any] = lambda images: images,
        embed: Callable[[Tensor], Any] = lambda vectors: vectors,
    ) -> None:
        self.spoil_images, self.spoil_vectors = prepare, embed
        self.batches: list[int] = []

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def prepare(self, hu: Tensor) -> Any:
        assert hu.dtype == torch.int16
        return self.spoil_images(((hu.float() + 1024) / 4096).unsqueeze(1))

    def embed(self, images: Tensor) -> Any:
        self.batches.append(len(images))
        return self.spoil_vectors(torch.stack([images.sum(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))], dim=1))


def slices_of(*shapes: tuple[int, int]) -> Slices:
    generator = np.random.default_rng(0)
    return Slices(
        tuple(
            CTSlice(
                generator.integers(-1024, 3000, shape).astype(np.int16), None, f"s{i}", "p", "s", "v", i, 0
            )
            for i, shape in enumerate(shapes)
        )
    )


MIXED = slices_of((4, 4), (6, 5), (4, 3), (8, 8), (6, 6), (1, 4), (5, 6))


def embed(extractor: Any, slices: Slices = MIXED, batch_size: int = 2) -> Any:
    advanced: list[int] = []
    vectors = embed_slices(
        extractor, slices, batch_size=batch_size, device="cpu", name="sums", advance=advanced.append
    )
    assert sum(advanced) == len(slices)
    return vectors


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_mixed_sizes_keep_their_order(batch_size: int) -> None:
    extractor = Sums()
    vectors = embed(extractor, batch_size=batch_size)
    squares = [(pad_to_square(item.hu).astype(np.float64) + 1024) / 4096 for item in MIXED]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[square.sum(), square.max()] for square in squares], rtol=1e-6)
    assert max(extractor.batches) <= batch_size


def test_the_slices_themselves_stay_untouched() -> None:
    slices = slices_of((4, 4), (4, 4))
    before = [item.hu.copy() for item in slices]
    extractor = Sums()
    extractor.prepare = lambda hu: hu.zero_().float().unsqueeze(1)  # type: ignore[method-assign]
    embed(extractor, slices)
    for item, hu in zip(slices, before, strict=True):
        np.testing.assert_array_equal(item.hu, hu)


def test_an_output_buffer_used_again_does_no_harm() -> None:
    buffer = torch.empty(2, 2)

    def into_buffer(vectors: Tensor) -> Tensor:
        return buffer[: len(vectors)].copy_(vectors)

    np.testing.assert_array_equal(embed(Sums(embed=into_buffer)), embed(Sums()))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_vectors_of_other_types_become_float32(kind: torch.dtype) -> None:
    vectors = embed(Sums(embed=lambda vectors: vectors.to(kind)))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, embed(Sums()), rtol=0.01, atol=1 if kind == torch.int64 else 0)


def test_vectors_with_a_gradient_are_taken_without() -> None:
    weight = torch.ones(2, requires_grad=True)
    np.testing.assert_array_equal(embed(Sums(embed=lambda vectors: vectors * weight)), embed(Sums()))


def test_no_slices_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no slices"):
        embed(Sums(), Slices(()))


def fails(*arguments: object) -> Any:
    raise KeyError("layer4")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda images: images[:-1],
            "tensor of shape (2, channels, height, width), got Tensor of shape (1, 1",
        ),
        (lambda images: images[:, 0], "got Tensor of shape (2, 4, 4)"),
        (lambda images: images[:, :0], "got Tensor of shape (2, 0, 4, 4)"),
        (lambda images: images.numpy(), "got ndarray of shape (2, 1, 4, 4)"),
        (lambda images: [images], "got list"),
        (lambda images: None, "got NoneType"),
        (lambda images: images + 1, "float images in 0..1, got torch.float32 in 1"),
        (lambda images: images - 1, "float images in 0..1, got torch.float32 in -"),
        (lambda images: images * float("nan"), "float images in 0..1, got torch.float32 in nan..nan"),
        (lambda images: images > 0.5, "float images in 0..1, got torch.bool"),
        (lambda images: (images > 0.5).to(torch.uint8), "float images in 0..1, got torch.uint8"),
        (fails, "failed: KeyError: 'layer4'"),
    ],
)
def test_bad_images_are_the_plugins_fault(spoil: Callable[[Tensor], Any], says: str) -> None:
    with pytest.raises(PluginError) as caught:
        embed(Sums(prepare=spoil), slices_of((4, 4), (4, 4)))
    assert caught.value.problem.startswith("sums.prepare ")
    assert says in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda vectors: vectors[:-1],
            "tensor of shape (2, d), one row an image, got Tensor of shape (1, 2)",
        ),
        (lambda vectors: vectors.repeat(2, 1), "got Tensor of shape (4, 2)"),
        (lambda vectors: vectors[:, 0], "got Tensor of shape (2,)"),
        (lambda vectors: vectors[:, :, None], "got Tensor of shape (2, 2, 1)"),
        (lambda vectors: vectors[:, :0], "got Tensor of shape (2, 0)"),
        (lambda vectors: vectors.sum(), "got Tensor of shape ()"),
        (lambda vectors: vectors.numpy(), "got ndarray of shape (2, 2)"),
        (lambda vectors: vectors.tolist(), "got list"),
        (lambda vectors: vectors / torch.tensor([[1.0], [0.0]]), "NaN or infinite values in 1 of 2 rows"),
        (lambda vectors: vectors * float("nan"), "NaN or infinite values in 2 of 2 rows"),
        (lambda vectors: vectors.double() * 1e300, "NaN or infinite values in 2 of 2 rows"),
        (fails, "failed: KeyError: 'layer4'"),
    ],
)
def test_bad_vectors_are_the_plugins_fault(spoil: Callable[[Tensor], Any], says: str) -> None:
    with pytest.raises(PluginError) as caught:
        embed(Sums(embed=spoil), slices_of((4, 4), (4, 4)))
    assert caught.value.problem.startswith("sums.embed ")
    assert says in caught.value.problem
    assert "leave the plugin out" in caught.value.remedy


def test_what_a_metric_raises_is_not_said_of_an_extractor() -> None:
    with pytest.raises(PluginError, match=r"^The metric 'map@5' failed: ZeroDivisionError") as caught:
        guarded("The metric 'map@5'", lambda: 1 / 0, out_of_memory=MissingError("Too little."))
    assert "leave the plugin out" in caught.value.remedy and "extractor" not in caught.value.remedy


def test_a_width_that_changes_between_batches_is_the_plugins_fault() -> None:
    widths = iter([2, 2, 1])
    with pytest.raises(PluginError, match=r"sums\.embed returned vectors of 1 values, before of 2"):
        embed(Sums(embed=lambda vectors: vectors[:, : next(widths)]), slices_of(*[(4, 4)] * 6))


def test_an_extractors_own_error_keeps_its_remedy() -> None:
    def missing(images: Tensor) -> Tensor:
        raise MissingError("No CUDA memory is left.", "Lower --set run.batch_size.")

    for extractor in (Sums(prepare=missing), Sums(embed=missing)):
        with pytest.raises(MissingError, match=r"^No CUDA memory is left\. Lower --set run\.batch_size\.$"):
            embed(extractor)


def test_single_steps_give_what_they_checked() -> None:
    items = [CTSlice(np.zeros((4, 4), np.int16), None, f"s{i}", "p", "s", "v", i, 0) for i in range(3)]
    images = prepared(Sums(), items, device="cpu", name="sums")
    assert images.shape == (3, 1, 4, 4)
    vectors = embedded(Sums(), images, name="sums")
    np.testing.assert_allclose(vectors, [[4.0, 0.25]] * 3)


class Heights(Located, Sums):
    """Sees nothing but where the slices lie."""

    def prepare(self, hu: Tensor) -> Any:
        raise AssertionError("prepare_at takes its place")

    def prepare_at(self, hu: Tensor, positions: Tensor) -> Tensor:
        return positions[:, None, None, None].expand(-1, 1, 2, 2)


def test_where_the_slices_lie_reaches_those_that_ask() -> None:
    placed = Slices(
        tuple(replace(item, z_index=i, volume_slices=2 * len(MIXED) - 1) for i, item in enumerate(MIXED))
    )
    vectors = embed(Heights(), placed)
    np.testing.assert_allclose(vectors[:, 1], np.arange(len(MIXED)) / (2 * len(MIXED) - 2))


def test_an_unplaced_slice_is_an_error_for_those_that_ask() -> None:
    with pytest.raises(
        DataError, match=r"^sums goes by where in its scan a slice lies, which slice 's0' does"
    ):
        embed(Heights())


@pytest.mark.parametrize("step", ["prepare", "embed"])
def test_a_full_gpu_is_not_the_plugins_fault(step: str) -> None:
    def full(_: Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MissingError, match=r"memory.*run\.batch_size"):
        embed(Sums(**{step: full}))
