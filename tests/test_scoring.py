from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cbirbench.errors import MissingError, PluginError
from cbirbench.explain.relax import Explanation, RelaxOptions
from cbirbench.interfaces import Explainable
from cbirbench.plan import Contender, Request
from cbirbench.planning import build
from cbirbench.ranking import Ranking
from cbirbench.scoring import checked_values, evidence, explanations, masked_embed, scored
from cbirbench.slices import CTSlice, Slices

pytestmark = pytest.mark.usefixtures("fake_plugins")

OF_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
OF_A_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
)


class Notes:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    stage: Any = None


@pytest.fixture
def contender() -> Contender:
    return build(Request("blobs", ("brightness",), ("purity@1",), device="cpu")).contenders[0]


def a_slice(name: str, rows: int, columns: int) -> CTSlice:
    hu = np.random.default_rng(list(name.encode())).integers(-200, 300, (rows, columns))
    return CTSlice(hu.astype(np.int16), None, name, "p", "s", "v", 0, 1)


def explained(
    contender: Contender, extractor: Any, items: list[CTSlice], progress: Any, **changed: Any
) -> dict[str, Explanation]:
    relax = RelaxOptions(**{"masks": 40, "grid": 3, "batch_size": 16, "precision": "float32", **changed})
    made = explanations(contender, extractor, items, relax, advance=lambda done: None, progress=progress)
    return {item.slice_id: found for item, found in made}


def short_of_memory(extractor: Any, most: int, error: Exception) -> tuple[Any, list[int]]:
    """The extractor with memory for so many images; and the sizes of the batches that it was given."""
    plain, sizes = extractor.embed, []

    def embed(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > most:
            raise error
        found: torch.Tensor = plain(images)
        return found

    extractor.embed = embed
    return extractor, sizes


def test_slices_of_several_sizes_are_explained_each_at_its_own(contender: Contender) -> None:
    items = [a_slice("a", 8, 8), a_slice("b", 6, 5), a_slice("c", 8, 7)]
    found = explained(contender, contender.make(), items, Notes())
    assert {name: explanation.importance.shape for name, explanation in found.items()} == {
        "a": (8, 8),
        "b": (6, 6),
        "c": (8, 8),
    }
    for item in items:
        alone = explained(contender, contender.make(), [item], Notes())[item.slice_id]
        np.testing.assert_array_equal(found[item.slice_id].importance, alone.importance)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (OF_A_GPU, MissingError, r"brightness-mean ran out of memory while it was explained.*--device cpu"),
        (OF_A_CPU, MissingError, r"ran out of memory while it was explained, even with one image at a time"),
        (MemoryError(), MissingError, r"ran out of memory"),
        (RuntimeError("sizes do not match"), PluginError, r"RuntimeError: sizes do not match"),
        (
            ZeroDivisionError("division by zero"),
            PluginError,
            r"brightness-mean\.embed, of masked images, failed: ZeroDivision",
        ),
        (PluginError("gazer gave nothing.", "Report it."), PluginError, r"^gazer gave nothing\. Report it"),
    ],
)
def test_a_fault_under_masks_names_the_extractor(
    contender: Contender, fault: Exception, error: type[Exception], says: str
) -> None:
    extractor, _ = short_of_memory(contender.make(), 0, fault)
    with pytest.raises(error, match=says):
        explained(contender, extractor, [a_slice("a", 8, 8)], Notes())


def test_what_the_twin_raises_names_the_extractor(contender: Contender) -> None:
    kind: Any = type(contender.make())

    class Twinless(kind, Explainable):  # type: ignore[misc]
        def for_explanation(self, precision: str) -> Any:
            raise NotImplementedError(precision)

    extractor = Twinless(contender.options, contender.context)
    with pytest.raises(PluginError, match=r"brightness-mean\.embed.*NotImplementedError: float32"):
        explained(contender, extractor, [a_slice("a", 8, 8)], Notes())


@pytest.mark.parametrize("error", [OF_A_GPU, OF_A_CPU, MemoryError()], ids=["GPU", "CPU", "Python"])
@pytest.mark.parametrize("most", [1, 3, 5, 15])
def test_with_little_memory_the_same_numbers_come_in_smaller_batches(
    contender: Contender, error: Exception, most: int
) -> None:
    items = [a_slice(f"a{i}", 8, 8) for i in range(4)]
    plenty = explained(contender, contender.make(), items, Notes())
    extractor, sizes = short_of_memory(contender.make(), most, error)
    notes = Notes()
    found = explained(contender, extractor, items, notes)
    for name, explanation in plenty.items():
        np.testing.assert_allclose(found[name].similarities, explanation.similarities, rtol=1e-6)
        np.testing.assert_allclose(found[name].importance, explanation.importance, rtol=1e-5)
        assert found[name].problem == explanation.problem == ""
    halves = [size for size in (8, 4, 2, 1) if size * 2 > most]
    assert notes.texts == [
        f"brightness-mean: memory ran out; {size} masked images at a time from here on." for size in halves
    ]
    # It goes on with the halves, for the slices that come later too: no batch is tried in vain again.
    assert [size for size in sizes if size > most] == [16, *halves][: len(halves)]


def test_masked_images_go_to_the_twin_in_the_runs_precision_and_it_is_made_late() -> None:
    made = []

    class Twinned(Explainable):
        def for_explanation(self, precision: str) -> Any:
            made.append(precision)
            return lambda images: images + 1

        def embed(self, images: torch.Tensor) -> torch.Tensor:
            return images

    extractor: Any = Twinned()
    embed = masked_embed(extractor, RelaxOptions(precision="bfloat16"))
    assert made == []
    assert [float(embed(torch.zeros(1))) for _ in range(3)] == [1, 1, 1]
    assert made == ["bfloat16"]
    # A precision that nobody resolved: what the extractor itself does is always right.
    assert float(masked_embed(extractor, RelaxOptions())(torch.zeros(1))) == 0
    plain: Any = type("Plain", (), {"embed": staticmethod(lambda images: images - 1)})()
    assert float(masked_embed(plain, RelaxOptions(precision="bfloat16"))(torch.zeros(1))) == -1


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 1)), np.array([0.0, np.inf]), 1.0])
def test_a_metric_that_gives_something_else_is_refused(values: object) -> None:
    metric: Any = type("Odd", (), {"name": "odd"})
    with pytest.raises(PluginError, match="odd"):
        checked_values(metric, values, 2)


def test_undefined_values_of_a_metric_are_kept() -> None:
    metric: Any = type("Fine", (), {"name": "fine"})
    checked = checked_values(metric, [0.5, float("nan")], 2)
    assert checked[0] == 0.5 and np.isnan(checked[1])


@pytest.mark.parametrize(
    "part",
    ["query_labels", "gallery_labels", "neighbours", "distances", "query_embeddings", "gallery_embeddings"],
)
def test_no_metric_changes_what_the_others_are_given(part: str) -> None:
    slices = Slices((a_slice("a", 4, 4), a_slice("b", 4, 4)))
    ranking = Ranking(np.array([[0, 1], [1, 0]]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    vectors = [np.eye(2, dtype=np.float32)] * 2
    given = evidence(slices, slices, vectors, ranking, {"a": np.ones((4, 4), np.float32)})

    class Writes:
        name = "writes"

        def per_query(self, found: Any) -> Any:
            getattr(found, part)[:] = 0

    metric: Any = Writes()
    with pytest.raises(PluginError, match=r"'writes' failed: ValueError: .*read-only"):
        scored(metric, given)
    with pytest.raises(ValueError, match="read-only"):
        given.maps[0][:] = 0  # type: ignore[index]
    assert (ranking.neighbours == [[0, 1], [1, 0]]).all() and ranking.neighbours.flags.writeable
