from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbirbench import reading, registry
from cbirbench.errors import CbirbenchError, DataError, MissingError, PluginError
from cbirbench.interfaces import Source
from cbirbench.reading import read_benchmark
from cbirbench.slices import Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


class Steps:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done = 0

    def note(self, text: str) -> None:
        raise AssertionError(text)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        self.stages.append((title, total))

        def advance(done: int) -> None:
            self.done += done

        yield advance


class Unreadable:
    """A benchmark whose scans are gone, or one that counts how often it is read."""

    def __init__(self, benchmark: Any = None) -> None:
        self.benchmark = benchmark
        self.read_ids: list[str] = []

    def read(self, source: Source) -> Slices:
        assert self.benchmark is not None, f"{source.volume_id} was read"
        self.read_ids.append(source.volume_id)
        slices: Slices = self.benchmark.read(source)
        return slices


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def blobs(**options: Any) -> Any:
    plugin_class = registry.load(registry.find("benchmark", "blobs"))
    return plugin_class(plugin_class.options_type(**options))


def read(
    benchmark: Any, store: Store, sources: Sequence[Source] | None = None, steps: Steps | None = None
) -> Any:
    found = read_benchmark(
        registry.find("benchmark", "blobs"),
        benchmark,
        blobs(scans=1).sources() if sources is None else sources,
        store,
        steps or Steps(),
    )
    return found.gallery, found.queries


def test_gallery_and_queries_in_the_order_of_the_sources(store: Store) -> None:
    sources = blobs(scans=1).sources()
    mixed = [sources[1], *blobs(scans=2).sources()[1::-1]]
    steps = Steps()
    gallery, queries = read(blobs(), store, mixed, steps)
    assert gallery.ids == ["g1-0", "g1-1", "g0-0", "g0-1"]
    assert queries.ids == ["q0-0", "q0-1"]
    assert steps.stages == [("Reading scans", 3)]
    assert steps.done == 3


def test_the_second_time_touches_no_scan(store: Store) -> None:
    first = read(blobs(), store)
    steps = Steps()
    second = read(Unreadable(), store, steps=steps)
    assert [slices.fingerprint() for slices in second] == [slices.fingerprint() for slices in first]
    assert steps.stages == []
    np.testing.assert_array_equal(second[0][1].hu, first[0][1].hu)


def test_only_what_is_missing_or_damaged_is_read(store: Store) -> None:
    sources = blobs(scans=1).sources()
    first = read(blobs(), store, sources)
    entries = sorted(path for path in store.folder.rglob("*") if path.is_file())
    assert len(entries) == 2
    content = bytearray(entries[0].read_bytes())
    content[-1] ^= 1
    entries[0].write_bytes(content)
    counting = Unreadable(blobs())
    second = read(counting, store, sources)
    assert len(counting.read_ids) == 1
    assert store.discarded == [entries[0]]
    assert [slices.fingerprint() for slices in second] == [slices.fingerprint() for slices in first]


@pytest.mark.parametrize(
    "changed",
    [
        Source("g0", "patient-g0", "gallery", {"seed": 1}),
        Source("g0", "patient-g0", "gallery", {"seed": 0, "size": 12}),
        Source("g9", "patient-g0", "gallery", {"seed": 0}),
    ],
)
def test_another_source_is_read(store: Store, changed: Source) -> None:
    sources = blobs(scans=1).sources()
    read(blobs(), store, sources)
    counting = Unreadable(blobs())
    read(counting, store, [changed, sources[1]])
    assert counting.read_ids == [changed.volume_id]


def test_another_version_or_source_of_the_plugin_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(blobs(), store)
    monkeypatch.setattr(registry, "source_digest", lambda module: f"other source of {module}")
    counting = Unreadable(blobs())
    read(counting, store)
    assert sorted(counting.read_ids) == ["g0", "q0"]


BAD = [
    ("data", DataError, "q0 is truncated. Fetch it again."),
    ("mistake", PluginError, "The benchmark 'blobs' failed at q0: KeyError: 'affine'."),
    ("stranger", PluginError, "gave slices of patient 'somebody else' for q0 of 'patient-q0'"),
    ("nothing", PluginError, "gave no slices for q0 of 'patient-q0'"),
]


@pytest.mark.parametrize(("how", "kind", "says"), BAD)
def test_a_scan_that_cannot_be_used_keeps_the_earlier_ones(
    store: Store, how: str, kind: type[CbirbenchError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        read(blobs(bad="q0", how=how), store)
    assert says in str(caught.value)
    counting = Unreadable(blobs())
    read(counting, store)
    assert counting.read_ids == ["q0"]


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(reading, "WORKERS_START_SECONDS", -1.0)


def test_a_slice_id_on_both_sides_is_the_plugins_fault(store: Store) -> None:
    with pytest.raises(PluginError, match=r"2 slice ids in the gallery and among the queries, 'g0-0'"):
        read(blobs(bad="q0", how="namesake"), store)


def test_workers_read_what_one_process_reads(store: Store, tmp_path: Path, two_workers: None) -> None:
    sources = blobs(scans=2).sources()
    steps = Steps()
    by_workers = read(blobs(scans=2), store, sources, steps)
    assert steps.done == 4
    alone = Store(tmp_path / "other")
    for source in sources:  # one at a time: below the fewest for workers
        read(blobs(scans=2), alone, [source])
    by_one = read(Unreadable(), alone, sources)
    assert [slices.fingerprint() for slices in by_workers] == [slices.fingerprint() for slices in by_one]
    assert by_workers[0].ids == ["g0-0", "g0-1", "g1-0", "g1-1"]
    read(Unreadable(), store, sources)


@pytest.mark.parametrize(("seconds", "alone"), [(0.0, 6), (1.0, 6), (3.0, 2), (9.0, 1)])
def test_workers_start_once_they_save_more_than_they_cost(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, alone: int
) -> None:
    # With two workers and n of 6 scans left, n * seconds / 2 are saved; the clock ticks `seconds` a scan,
    # but for the first, which takes a quarter of it.
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ticks = iter([0.0, seconds / 4, *(tick for n in range(9) for tick in (0.0, seconds))])
    monkeypatch.setattr(reading.time, "perf_counter", lambda: next(ticks))
    started = []

    def by_workers(plugin, benchmark, todo, workers):
        started.append((len(todo), workers))
        yield from ((source, reading._read_one(plugin, benchmark, source)) for source in todo)

    monkeypatch.setattr(reading, "_read_by_workers", by_workers)
    sources = blobs(scans=3).sources()
    found = read(blobs(scans=3), store, sources)
    assert len(found[0]) == len(found[1]) == 6
    assert started == ([] if alone == 6 else [(6 - alone, 2)])


def test_an_error_in_a_worker_arrives_whole(store: Store, two_workers: None) -> None:
    with pytest.raises(DataError) as caught:
        read(blobs(scans=2, bad="q1"), store, blobs(scans=2).sources())
    assert caught.value.problem == "q1 is truncated."
    assert caught.value.remedy == (
        "Fetch it again. `cbirbench data check` reads every scan of a cohort and tells of each."
    )


def test_a_mistake_in_a_worker_is_the_plugins(store: Store, two_workers: None) -> None:
    with pytest.raises(PluginError, match="'blobs' failed at g1: KeyError: 'affine'"):
        read(blobs(scans=2, bad="g1", how="mistake"), store, blobs(scans=2).sources())


def test_a_worker_that_dies_is_told_as_such(store: Store, two_workers: None) -> None:
    with pytest.raises(MissingError, match=r"usually memory ran out.*same command again"):
        read(blobs(scans=2, bad="g0", how="death"), store, blobs(scans=2).sources())


def test_a_benchmark_that_does_not_pickle_is_the_plugins_fault(store: Store, two_workers: None) -> None:
    benchmark = blobs(scans=2)
    benchmark.opened = (line for line in ())
    with pytest.raises(
        PluginError, match=r"'blobs' cannot be handed to another process: TypeError.*must pickle"
    ):
        read(benchmark, store, blobs(scans=2).sources())


def test_one_processor_reads_without_workers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    counting = Unreadable(blobs(scans=3))
    read(counting, store, blobs(scans=3).sources())
    assert counting.read_ids == ["g0", "g1", "g2", "q0", "q1", "q2"]
