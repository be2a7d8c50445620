"""Preparing a cohort: time and memory of our reading against nibabel's `get_fdata` and indexing.

Ours reads the mask, draws ten slices by it, then reads these from the image; both files are read to their
end and checked. The plain way loads image and mask as arrays with `get_fdata()` and indexes the same slices,
whose positions it is told. That both gave the same voxels is checked. Every measurement is a process of its
own, modules imported before the clock starts (but those of workers); the ways take turns, and who goes first
alternates. The files lie in the system's file cache unless said otherwise. Without --data, bodies of the
phantom are drawn first, half a minute each. Exits with 1 when a target is missed.

    python benchmarks/preparation.py
    python benchmarks/preparation.py --data Task03_Liver --copies 5
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# No NumPy up here: a process's peak memory begins with that of the process that started it.
# ruff: noqa: PLC0415

FASTER, LEANER = 3.0, 1 / 3
COHORT, COHORT_SECONDS = 131, 240.0
BESIDE_A_VOLUME_MB = 300.0

ONE = {"ours": "cbirbench", "plain": "nibabel `get_fdata()`"}
ALL = {
    "ours-all": "cbirbench, as a run reads",
    "ours-one": "cbirbench, one process",
    "plain-all": "nibabel, one process",
    "plain-pool": "nibabel, a process a core",
}


def by_number(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


def measure(what: str, task: Path, index: int, chosen: dict[str, list[int]]) -> dict[str, Any]:
    """Do the work once in this process; seconds, peak memory in MB and what was read."""
    import resource
    import time

    work = {
        "ours": ours,
        "plain": plain,
        "ours-all": ours_all,
        "ours-one": ours_one,
        "plain-all": plain_all,
        "plain-pool": plain_pool,
    }
    prepared = work[what](task, index, chosen)
    start = time.perf_counter()
    found = prepared()
    seconds = time.perf_counter() - start
    unit = 1e-6 if sys.platform == "darwin" else 1e-6 * 1024
    own, children = (
        resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"seconds": seconds, "mb": own, "worker_mb": children, "read": found}


def decathlon(task: Path) -> tuple[Any, Any, list[Any]]:
    from cbirbench import registry
    from cbirbench.scans import nifti  # noqa: F401

    count = len(list((task / "imagesTr").glob("*.nii.gz")))
    plugin = registry.find("benchmark", "decathlon")
    made = registry.load(plugin)
    options = made.options_type(data=task, train_volumes=count - 1, test_volumes=1)
    benchmark = made(options)
    return plugin, benchmark, list(benchmark.sources())


def summed(slices: Any) -> list[list[int]]:
    """Sums over each slice that do not depend on how it lies: HU, squares of HU, voxels of the mask."""
    import numpy as np

    wide = [(hu.astype(np.int64), mask) for hu, mask in slices]
    return sorted([int(hu.sum()), int((hu * hu).sum()), int((mask > 0).sum())] for hu, mask in wide)


def ours(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    _, benchmark, sources = decathlon(task)
    return lambda: list(benchmark.read(sources[index]))


def ours_one(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    _, benchmark, sources = decathlon(task)
    return lambda: [item for source in sources for item in benchmark.read(source)]


def ours_all(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    from contextlib import contextmanager

    from cbirbench.reading import read_benchmark
    from cbirbench.store import Store

    class Quiet:
        @contextmanager
        def stage(self, title: str, total: int) -> Any:
            yield lambda count: None

        def note(self, text: str) -> None:
            pass

    plugin, benchmark, sources = decathlon(task)
    cache = tempfile.TemporaryDirectory()

    def work() -> list[Any]:
        read = read_benchmark(plugin, benchmark, sources, Store(Path(cache.name)), Quiet())
        return [*read.gallery, *read.queries]

    return work


def load_plainly(image_path: str, label_path: str, positions: list[int]) -> list[tuple[Any, Any]]:
    """What one would write without much thought; the slices lie along the last axis."""
    import nibabel
    import numpy as np

    image = nibabel.load(image_path).get_fdata()
    label = nibabel.load(label_path).get_fdata()
    return [(image[:, :, z].astype(np.int16), label[:, :, z].astype(np.uint8)) for z in positions]


def jobs(task: Path, chosen: dict[str, list[int]]) -> list[tuple[str, str, list[int]]]:
    names = sorted(chosen, key=lambda name: by_number(Path(name)))
    return [(str(task / "imagesTr" / name), str(task / "labelsTr" / name), chosen[name]) for name in names]


def plain(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    import nibabel  # noqa: F401

    job = jobs(task, chosen)[index]
    return lambda: load_plainly(*job)


def plain_all(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    import nibabel  # noqa: F401

    todo = jobs(task, chosen)
    return lambda: [item for job in todo for item in load_plainly(*job)]


def plain_pool(task: Path, index: int, chosen: dict[str, list[int]]) -> Any:
    from multiprocessing import get_context

    import nibabel  # noqa: F401

    todo = jobs(task, chosen)

    def work() -> list[Any]:
        with get_context("spawn").Pool(os.cpu_count()) as pool:
            found = pool.starmap(load_plainly, todo, chunksize=1)
            pool.close()
            pool.join()  # so that their memory is counted
        return [item for volume in found for item in volume]

    return work


def child(what: str, task: Path, index: int, listed: Path) -> None:
    chosen = json.loads(listed.read_text()) if listed.is_file() else {}
    result = measure(what, task, index, chosen)
    read = result.pop("read")
    pairs = read if what.startswith("plain") else [(item.hu, item.mask) for item in read]
    print(json.dumps({**result, "sums": summed(pairs)}))


def describe(task: Path) -> None:
    """Shapes of the volumes and the stored positions of the slices that ours draws, by file."""
    from cbirbench.scans.volumes import open_volume

    _, benchmark, sources = decathlon(task)
    paths = sorted((task / "imagesTr").glob("*.nii.gz"), key=by_number)
    found = {}
    for path, source in zip(paths, sources, strict=True):
        grid = open_volume(path).grid
        assert grid.axes[0] == 2, f"{path}: slices do not lie along the last axis"
        positions = grid.stored_positions([item.z_index for item in benchmark.read(source)])
        # "mb": uncompressed, as the 16-bit integers that CT is.
        found[path.name] = {
            "shape": grid.shape,
            "mb": 2e-6 * grid.shape[0] * grid.shape[1] * grid.shape[2],
            "positions": sorted(positions.tolist()),
        }
    print(json.dumps(found))


def render(task: Path, volumes: int, slices: int) -> None:
    from cbirbench.datasets.phantom_export import write_decathlon_layout

    write_decathlon_layout(task, volumes=volumes, seed=0, size=512, slices=slices)


def fresh(*arguments: object) -> Any:
    """Run this script with hidden arguments in a process of its own."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output) if output.strip() else None


def linked(data: Path, copies: int, place: Path, most: int | None = None) -> Path:
    """The same files under several names, so that a few volumes are a cohort."""
    for name in ("imagesTr", "labelsTr"):
        (place / name).mkdir(parents=True)
        paths = sorted((data / name).glob("[!.]*.nii.gz"), key=by_number)
        for copy, path in [(copy, path) for copy in range(copies) for path in paths][:most]:
            number = 1000 * copy + by_number(path)[0]
            (place / name / f"liver_{number}.nii.gz").symlink_to(path.resolve())
    return place


def chill(task: Path) -> None:
    """Drop the files from the system's file cache."""
    for path in task.glob("*Tr/*.nii.gz"):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(task: Path) -> None:
    for path in task.glob("*Tr/*.nii.gz"):
        with path.open("rb") as stream:
            while stream.read(1 << 24):
                pass


def in_turn(ways: dict[str, str], repeats: int, *arguments: object) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in list(ways)[:: -1 if repeat % 2 else 1]:
            results[way].append(fresh(way, *arguments))
    sums = [row.pop("sums") for rows in results.values() for row in rows]
    assert all(one == sums[0] for one in sums), "the ways read different voxels"
    return results


def spread(rows: list[dict[str, Any]], key: str = "seconds") -> tuple[float, str]:
    values = sorted(row[key] for row in rows)
    return statistics.median(values), f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


def reading_mb(row: dict[str, Any]) -> float:
    """Peak of the process that read: the largest worker or, where none was started, the process itself."""
    return row["worker_mb"] or row["mb"]


def installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def compared_singly(task: Path, described: dict[str, Any], listed: Path, repeats: int, most: int) -> float:
    """Each of the first volumes alone; our share of the memory at the largest."""
    print(
        "| one volume, one process | shape | cbirbench, s | nibabel, s | times | cbirbench, MB | nibabel, MB "
        "| share |\n|---|---|---|---|---|---|---|---|"
    )
    shares = []
    for index, (name, entry) in enumerate(list(described.items())[:most]):
        rows = in_turn(ONE, repeats, task, index, listed)
        (fast, our_time), (slow, their_time) = (spread(rows[way]) for way in ONE)
        our_mb, their_mb = (max(row["mb"] for row in rows[way]) for way in ONE)
        shares.append((entry["mb"], our_mb / their_mb))
        print(
            f"| {name.removesuffix('.nii.gz')} | {'x'.join(map(str, entry['shape']))} | {our_time} "
            f"| {their_time} | {slow / fast:.1f} | {our_mb:.0f} | {their_mb:.0f} | {our_mb / their_mb:.2f} |",
            flush=True,
        )
    return max(shares)[1]


def compared_together(task: Path, count: int, listed: Path, repeats: int) -> tuple[dict[str, float], float]:
    """All of the volumes compared, each way; median seconds, and the most memory of one of our workers."""
    rows = in_turn(ALL, repeats, task, 0, listed)
    medians = {way: spread(rows[way])[0] for way in ALL}
    print(
        f"\n| {count} volumes, {os.cpu_count()} cores | s | s a volume | times ours | most of a process, MB "
        "|\n|---|---|---|---|---|"
    )
    for way, name in ALL.items():
        peak = max(max(row["mb"], row["worker_mb"]) for row in rows[way])
        print(
            f"| {name} | {spread(rows[way])[1]} | {medians[way] / count:.2f} "
            f"| {medians[way] / medians['ours-all']:.1f} | {peak:.0f} |",
            flush=True,
        )
    return medians, max(map(reading_mb, rows["ours-all"]))


def whole_cohort(task: Path, count: int, repeats: int) -> tuple[float, float]:
    """Ours alone, on everything; seconds a volume at worst, and the most memory of a worker."""
    rows = {"in the file cache": [fresh("ours-all", task, 0, "-") for _ in range(repeats)]}
    if hasattr(os, "posix_fadvise"):
        rows["not in it"] = []
        for _ in range(repeats):
            chill(task)
            rows["not in it"].append(fresh("ours-all", task, 0, "-"))
    print(
        f"\n| cbirbench as a run reads, {count} volumes | s | s a volume | {COHORT} such volumes, s "
        "| reading process, MB |\n|---|---|---|---|---|"
    )
    each = {}
    for where, found in rows.items():
        each[where] = spread(found)[0] / count
        worker = max(map(reading_mb, found))
        print(
            f"| {where} | {spread(found)[1]} | {each[where]:.2f} | {each[where] * COHORT:.0f} "
            f"| {worker:.0f} |",
            flush=True,
        )
    return max(each.values()), max(reading_mb(row) for found in rows.values() for row in found)


def compare(data: Path, arguments: argparse.Namespace, place: Path) -> dict[str, bool]:
    everything = linked(data, arguments.copies, place / "everything")
    task = linked(data, arguments.copies, place / "compared", most=arguments.compared)
    warm(everything)
    described = fresh("describe", task, 0, "-")
    listed = place / "chosen.json"
    listed.write_text(json.dumps({name: entry["positions"] for name, entry in described.items()}))
    count = len(list((everything / "imagesTr").iterdir()))
    stored = sum(path.stat().st_size for path in everything.glob("*Tr/*.nii.gz"))
    print(f"{count} volumes, {stored / 1e9:.2f} GB on disk.\n", flush=True)

    share = compared_singly(task, described, listed, arguments.repeats, arguments.singles)
    medians, worker = compared_together(task, len(described), listed, arguments.repeats)
    seconds, most = whole_cohort(everything, count, arguments.repeats)
    faster, worker = medians["plain-all"] / medians["ours-all"], max(worker, most)
    allowed = max(entry["mb"] for entry in described.values()) + BESIDE_A_VOLUME_MB
    every_core, one = medians["plain-pool"] / medians["ours-all"], medians["plain-all"] / medians["ours-one"]
    lines = [
        f"{faster:.1f} times as fast as nibabel in one process (at least {FASTER:g}), {every_core:.1f} times",
        f"as nibabel on every core; one process against one, {one:.1f} times. {share:.2f} of its memory at",
        f"the largest volume compared (at most {LEANER:.2f}). The reading process: {worker:.0f} MB (below",
        f"{allowed:.0f}). {COHORT} such volumes: {seconds * COHORT:.0f} s (below {COHORT_SECONDS:.0f}).",
    ]
    print("", *lines, sep="\n")
    return {
        "time": faster >= FASTER,
        "memory": share <= LEANER,
        "worker": worker < allowed,
        "cohort": seconds * COHORT < COHORT_SECONDS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of preparing a cohort.")
    parser.add_argument("--data", type=Path, help="A folder with imagesTr and labelsTr; else the phantom.")
    parser.add_argument("--copies", type=int, default=1, help="Names under which each volume is read.")
    parser.add_argument("--volumes", type=int, default=20, help="Bodies of the phantom.")
    parser.add_argument("--slices", type=int, default=450, help="Slices of each.")
    parser.add_argument("--singles", type=int, default=3, help="Volumes that are measured alone as well.")
    parser.add_argument("--compared", type=int, default=6, help="Volumes on which the ways are compared.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, task, *rest = arguments.child
        if what == "render":
            render(Path(task), *map(int, rest))
        elif what == "describe":
            describe(Path(task))
        else:
            child(what, Path(task), int(rest[0]), Path(rest[1]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if arguments.data is None:
            arguments.data = place / "Task03_Liver"
            fresh("render", arguments.data, arguments.volumes, arguments.slices)
        before = os.getloadavg()
        targets = compare(arguments.data, arguments, place)
        after = os.getloadavg()
    packages = ", ".join(map(installed, ("nibabel", "isal", "indexed-gzip", "numpy")))
    print(
        f"\n{processor()}, {os.cpu_count()} cores; load before {before[0]:.2f}, after {after[0]:.2f}. "
        f"Python {platform.python_version()}, {packages}, {platform.system()}."
    )
    missed = [target for target, met in targets.items() if not met]
    if missed:
        print(f"Missed: {', '.join(missed)}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
