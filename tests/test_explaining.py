"""Explanations through the cache: what is there is not computed again, and changes no number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cbirbench import keys
from cbirbench.explain.relax import CHECKED_EVERY, Explanation, RelaxOptions
from cbirbench.explaining import explained
from cbirbench.interfaces import Explainable
from cbirbench.plan import Contender, Request
from cbirbench.planning import build
from cbirbench.slices import CTSlice
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")

BLOCK = 8


class Quiet:
    """A progress that adds up what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done = 0

    def note(self, text: str) -> None:
        pytest.fail(text)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        self.stages.append((title, total))

        def advance(done: int) -> None:
            self.done += done

        yield advance


class Counting:
    """Counts the images that an extractor embeds."""

    def __init__(self, extractor: Any) -> None:
        self.images = 0
        plain = extractor.embed

        def embed(images: torch.Tensor) -> torch.Tensor:
            self.images += len(images)
            return plain(images)

        extractor.embed = embed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def contender() -> Contender:
    return build(Request("blobs", ("brightness",), ("purity@1",), device="cpu")).contenders[0]


@pytest.fixture
def items() -> list[CTSlice]:
    plan = build(Request("blobs", ("brightness",), ("purity@1",), device="cpu"))
    return [item for source in plan.sources for item in plan.benchmark.read(source)][:3]


def relax_of(masks: int, **changed: Any) -> RelaxOptions:
    return RelaxOptions(**{"masks": masks, "grid": 3, "batch_size": BLOCK, "precision": "float32", **changed})


def explaining(
    contender: Contender, items: list[CTSlice], relax: RelaxOptions, store: Store, extractor: Any = None
) -> tuple[dict[str, Explanation], int]:
    """The explanations, and how many images were embedded for them."""
    extractor = extractor or contender.make()
    shaped_by = keys.untrained("cpu", contender, extractor)
    counting = Counting(extractor)
    progress = Quiet()
    found = explained(contender, extractor, shaped_by, items, relax, store, progress, "explaining")
    assert progress.stages == [("explaining (masked images)", len(items) * relax.masks)]
    assert progress.done == len(items) * relax.masks
    return found, counting.images


def assert_equal(one: dict[str, Explanation], other: dict[str, Explanation]) -> None:
    """To the last bit."""
    assert list(one) == list(other)
    for (name, found), expected in zip(one.items(), other.values(), strict=True):
        for part in ("importance", "uncertainty", "similarities", "reliability"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), err_msg=name)
        assert (found.masks, found.problem) == (expected.masks, expected.problem)


def cached_masks(store: Store, contender: Contender, relax: RelaxOptions, item: CTSlice) -> int:
    shaped_by = keys.untrained("cpu", contender, contender.make())
    entry = store.read("similarities", keys.similarities(relax, shaped_by, item))
    assert entry is not None
    return len(entry[0]["similarities"])


def test_what_was_explained_is_not_computed_again(
    contender: Contender, items: list[CTSlice], store: Store
) -> None:
    first, embedded = explaining(contender, items, relax_of(20), store)
    assert embedded == len(items) * (1 + 20)
    assert list(first) == [item.slice_id for item in items]
    assert all(found.masks == 20 and found.importance.shape == (12, 12) for found in first.values())
    again, embedded = explaining(contender, items, relax_of(20), store)
    assert embedded == 0
    assert_equal(again, first)


def test_similarities_serve_every_estimator(
    contender: Contender, items: list[CTSlice], store: Store, tmp_path: Path
) -> None:
    plain, _ = explaining(contender, items, relax_of(40), store)
    changed = relax_of(40, estimator="regression", uncertainty_filter="median")
    other, embedded = explaining(contender, items, changed, store)
    assert embedded == 0
    assert not np.array_equal(other[items[0].slice_id].importance, plain[items[0].slice_id].importance)
    assert_equal(other, explaining(contender, items, changed, Store(tmp_path / "own"))[0])


@pytest.mark.parametrize(
    ("before", "after", "computed"),
    [
        (16, 50, 1 + 34),
        # The block that was cut short is computed whole: a last digit may depend on a batch's length.
        (20, 50, 1 + 34),
        (50, 16, 0),
        (50, 13, 1 + 5),
        (3, 50, 1 + 50),
        (1, 2, 1 + 2),
    ],
)
def test_another_number_of_masks_gives_what_it_gives_from_scratch(
    contender: Contender,
    items: list[CTSlice],
    store: Store,
    tmp_path: Path,
    before: int,
    after: int,
    computed: int,
) -> None:
    first, _ = explaining(contender, items, relax_of(before), store)
    found, embedded = explaining(contender, items, relax_of(after), store)
    assert embedded == len(items) * computed
    assert_equal(found, explaining(contender, items, relax_of(after), Store(tmp_path / "own"))[0])
    shared = min(before, after)
    for name, explanation in found.items():
        one, other = explanation.similarities[:shared], first[name].similarities[:shared]
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert cached_masks(store, contender, relax_of(after), items[0]) == max(before, after)
    assert explaining(contender, items, relax_of(max(before, after)), store)[1] == 0


def test_slices_that_join_later_leave_the_others_as_they_are(
    contender: Contender, items: list[CTSlice], store: Store, tmp_path: Path
) -> None:
    explaining(contender, items[:1], relax_of(20), store)
    found, embedded = explaining(contender, items, relax_of(20), store)
    assert embedded == 2 * (1 + 20)
    assert_equal(found, explaining(contender, items, relax_of(20), Store(tmp_path / "own"))[0])


def test_a_damaged_entry_is_made_anew(contender: Contender, items: list[CTSlice], store: Store) -> None:
    first, _ = explaining(contender, items, relax_of(20), store)
    (damaged, *_) = sorted((store.folder / "similarities").rglob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    again, embedded = explaining(contender, items, relax_of(20), store)
    assert embedded == 1 + 20
    assert_equal(again, first)
    assert store.discarded == [damaged]
    assert explaining(contender, items, relax_of(20), store)[1] == 0


def test_masks_until_reliable_are_as_many_from_the_cache_as_fresh(
    contender: Contender, items: list[CTSlice], store: Store, tmp_path: Path
) -> None:
    cap = 4 * CHECKED_EVERY
    every, _ = explaining(contender, items, relax_of(cap), store)
    reached = {}
    for wanted in (0.5, 0.9, 0.999999):
        relax = relax_of(cap, until_reliable=wanted)
        fresh, embedded = explaining(contender, items, relax, Store(tmp_path / str(wanted)))
        cached, computed = explaining(contender, items, relax, store)
        assert computed == 0 < embedded
        assert_equal(cached, fresh)
        reached[wanted] = [found.masks for found in fresh.values()]
        for name, found in fresh.items():
            np.testing.assert_array_equal(found.similarities, every[name].similarities[: found.masks])
            assert found.masks == cap or found.reliability >= wanted
    assert max(reached[0.5]) < cap and reached[0.999999] == [cap] * len(items)
    assert all(a <= b for a, b in zip(reached[0.5], reached[0.9], strict=True))
    assert cached_masks(store, contender, relax_of(cap), items[0]) == cap, "what is cached is not cut"


def test_what_stopped_when_reliable_goes_on_for_more(
    contender: Contender, items: list[CTSlice], store: Store, tmp_path: Path
) -> None:
    cap = 2 * CHECKED_EVERY
    sparing, first = explaining(contender, items, relax_of(cap, until_reliable=0.3), store)
    assert all(found.masks < cap for found in sparing.values())
    found, rest = explaining(contender, items, relax_of(cap), store)
    assert rest < first
    assert_equal(found, explaining(contender, items, relax_of(cap), Store(tmp_path / "own"))[0])


class Explained:
    """What was asked of an extractor with a twin."""

    def __init__(self) -> None:
        self.precisions: list[str] = []
        self.images = 0


def extractor_with_a_twin(contender: Contender) -> tuple[Any, Explained]:
    kind: Any = type(contender.make())
    asked = Explained()

    class WithTwin(kind, Explainable):  # type: ignore[misc]
        def for_explanation(self, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
            asked.precisions.append(precision)

            def twin(images: torch.Tensor) -> torch.Tensor:
                asked.images += len(images)
                return super(WithTwin, self).embed(images)

            return twin

    return WithTwin(contender.options, contender.context), asked


def test_an_explainable_extractors_twin_is_made_once_and_only_when_needed(
    contender: Contender, items: list[CTSlice], store: Store
) -> None:
    plain, _ = explaining(contender, items, relax_of(20, precision="bfloat16"), Store(store.folder / "plain"))
    extractor, asked = extractor_with_a_twin(contender)
    found, by_itself = explaining(contender, items, relax_of(20, precision="bfloat16"), store, extractor)
    assert asked.precisions == ["bfloat16"]
    assert (by_itself, asked.images) == (0, len(items) * (1 + 20))
    assert_equal(found, plain)
    extractor, asked = extractor_with_a_twin(contender)
    explaining(contender, items, relax_of(20, precision="bfloat16"), store, extractor)
    assert (asked.precisions, asked.images) == ([], 0)


def test_float32_is_asked_of_the_twin_too(contender: Contender, items: list[CTSlice], store: Store) -> None:
    extractor, asked = extractor_with_a_twin(contender)
    explaining(contender, items, relax_of(4), store, extractor)
    assert asked.precisions == ["float32"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_extractor_without_a_twin_embeds_itself(
    contender: Contender, items: list[CTSlice], store: Store, precision: str
) -> None:
    assert not isinstance(contender.make(), Explainable)
    assert explaining(contender, items, relax_of(4, precision=precision), store)[1] == len(items) * (1 + 4)


def test_a_slice_that_cannot_be_explained_is_not_kept(
    contender: Contender, items: list[CTSlice], store: Store
) -> None:
    blank = CTSlice(np.full((12, 10), -1000, np.int16), None, "air", "p", "s", "v", 0, 0)
    found, _ = explaining(contender, [*items, blank], relax_of(20), store)
    assert found["air"].problem == "the embedding of the whole image is zero"
    assert found["air"].masks == 0 and np.isnan(found["air"].importance).all()
    assert len(list((store.folder / "similarities").rglob("*.safetensors"))) == len(items)
    again, _ = explaining(contender, [*items, blank], relax_of(20), store)
    assert again["air"].problem == found["air"].problem
