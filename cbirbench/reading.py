"""A benchmark's slices, from its scans or from the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler

from cbirbench import registry
from cbirbench.doubts import heard
from cbirbench.errors import CbirbenchError, DataError, MissingError, PluginError
from cbirbench.interfaces import Benchmark, Progress, Source
from cbirbench.registry import Plugin
from cbirbench.slices import Slices
from cbirbench.store import Store, as_json, key_of, slices_from_arrays, slices_to_arrays

WORKERS_START_SECONDS = 3.0
"""What workers must be expected to save before they are started: more than their start takes."""


_Read = tuple[Slices, list[str]]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the scans of a benchmark gave.

    Attributes:
        gallery: The gallery's slices, in the order of the sources.
        queries: The queries, likewise.
        warnings: What was doubtful about scans that are used all the same, each once.
    """

    gallery: Slices
    queries: Slices
    warnings: tuple[str, ...]


def read_benchmark(
    plugin: Plugin, benchmark: Benchmark, sources: Sequence[Source], store: Store, progress: Progress
) -> Reading:
    """Read every scan that is not cached, one in memory a worker, and keep its slices.

    Raises:
        DataError: A scan cannot be used; scans read before it stay cached.
        PluginError: The benchmark failed, or a gallery slice has the id of a query.
    """
    keys = {source.volume_id: _key(plugin, source) for source in sources}
    read: dict[str, Slices] = {}
    doubts: dict[str, list[str]] = {}
    todo = []
    for source in sources:
        entry = store.read("slices", keys[source.volume_id])
        if entry is None:
            todo.append(source)
        else:
            read[source.volume_id] = slices_from_arrays(*entry)
            doubts[source.volume_id] = entry[1].get("warnings", [])
    if todo:
        with progress.stage("Reading scans", len(todo)) as advance:
            for source, (slices, found) in _read_all(plugin, benchmark, todo):
                arrays, metadata = slices_to_arrays(slices)
                store.write("slices", keys[source.volume_id], arrays, {**metadata, "warnings": found})
                read[source.volume_id], doubts[source.volume_id] = slices, found
                advance(1)
    gallery, queries = _joined(sources, read, "gallery"), _joined(sources, read, "query")
    twice = sorted(set(gallery.ids) & set(queries.ids))
    if twice:
        raise PluginError(
            f"The benchmark {plugin.name!r} has {len(twice)} slice ids in the gallery and among the queries, "
            f"{twice[0]!r} for one.",
            "Report it to the plugin's authors: a slice's id is unique in its benchmark.",
        )
    # In the order of the sources, whichever worker was the first.
    doubtful = dict.fromkeys(text for source in sources for text in doubts[source.volume_id])
    return Reading(gallery, queries, tuple(doubtful))


def _key(plugin: Plugin, source: Source) -> str:
    return key_of(
        {
            "benchmark": plugin.name,
            "distribution": [plugin.distribution, plugin.version],
            "source": [registry.source_digest(name) for name in (plugin.package, "cbirbench.scans")],
            "volume": source.volume_id,
            "patient": source.patient_id,
            "fingerprint": as_json(source.fingerprint),
        }
    )


def _joined(sources: Sequence[Source], read: dict[str, Slices], split: str) -> Slices:
    return Slices(
        tuple(item for source in sources if source.split == split for item in read[source.volume_id])
    )


def _read_all(plugin: Plugin, benchmark: Benchmark, todo: Sequence[Source]) -> Iterator[tuple[Source, _Read]]:
    """Yield (source, what it gave) as they come, from workers once what is left is worth their start."""
    left, spent = list(todo), 0.0
    while left:
        workers = min(len(left), os.cpu_count() or 1)
        # Each scan that is left is taken to need as long as those so far.
        saved = spent / max(len(todo) - len(left), 1) * len(left) * (1.0 - 1.0 / workers)
        if workers > 1 and saved > WORKERS_START_SECONDS:
            yield from _read_by_workers(plugin, benchmark, left, workers)
            return
        start = time.perf_counter()
        read = _read_one(plugin, benchmark, left[0])
        spent += time.perf_counter() - start
        yield left.pop(0), read


def _read_by_workers(
    plugin: Plugin, benchmark: Benchmark, todo: Sequence[Source], workers: int
) -> Iterator[tuple[Source, _Read]]:
    _check_pickles(plugin, benchmark, todo)
    # Spawned, not forked: torch and FAISS have threads of their own, which a fork would break.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        jobs = {pool.submit(_read_one, plugin, benchmark, source): source for source in todo}
        for job in as_completed(jobs):
            yield jobs[job], _result(job)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_pickles(plugin: Plugin, benchmark: Benchmark, sources: Sequence[Source]) -> None:
    # Found out here, since within the pool some versions of Python wait for ever.
    try:
        ForkingPickler.dumps((benchmark, sources))
    except Exception as error:
        raise PluginError(
            f"The benchmark {plugin.name!r} cannot be handed to another process: "
            f"{type(error).__name__}: {error}.",
            "Report it to the plugin's authors: a benchmark must pickle.",
        ) from error


def _result(job: Future[_Read]) -> _Read:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise MissingError(
            "A process that reads scans was ended from outside, or could not start; usually memory ran out.",
            "Free memory and run the same command again: it goes on from the scans read so far.",
        ) from error


def _read_one(plugin: Plugin, benchmark: Benchmark, source: Source) -> _Read:
    """The slices of a scan and what it warned of; a worker's own warnings would reach nobody."""
    warned: list[str] = []
    try:
        with heard(warned):
            slices = benchmark.read(source)
    except DataError as error:
        # One scan stops the run; another may be as bad.
        told = "`cbirbench data check` reads every scan of a cohort and tells of each."
        raise DataError(error.problem, f"{error.remedy} {told}".strip()) from error
    except CbirbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"The benchmark {plugin.name!r} failed at {source.volume_id}: {type(error).__name__}: {error}.",
            "Report it to the plugin's authors.",
        ) from error
    strangers = {item.patient_id for item in slices} - {source.patient_id}
    if not len(slices) or strangers:
        found = f"slices of patient {sorted(strangers)[0]!r}" if strangers else "no slices"
        raise PluginError(
            f"The benchmark {plugin.name!r} gave {found} for {source.volume_id} of {source.patient_id!r}.",
            "Report it to the plugin's authors.",
        )
    return slices, warned
