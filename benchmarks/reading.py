"""Reading one large CT volume: memory and time of our slice extraction against nibabel's own decompression.

Makes a seeded, CT-like scan of 512 x 512 x 500 int16 voxels and its mask in a temporary folder, in the
Decathlon's layout. Extraction (both files, ten slices) and nibabel's decompression of the image alone, twice,
each run in processes of their own, in turn. Exits with 1 when a target is missed: below 1.5 GB, not slower.

    python benchmarks/reading.py
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np

from cbirbench.datasets.msd import Decathlon, DecathlonOptions

MEMORY_LIMIT_GB = 1.5
NAMES = {"extraction": "slices by cbirbench", "nibabel": "image twice by nibabel"}


def write_task(folder: Path, shape: tuple[int, int, int]) -> Path:
    """Write an image with its mask, and a copy of both, as a benchmark needs two; return the image."""
    columns, rows, count = shape
    generator = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows), indexing="ij")
    body = (x / 0.85) ** 2 + (y / 0.65) ** 2 < 1
    spine = x**2 + (y - 0.45) ** 2 < 0.012
    organ = ((x + 0.4) / 0.3) ** 2 + (y / 0.35) ** 2 < 1
    # Noise of 20 HU inside the scanner's round field and plain air outside compresses about as real scans do,
    # of which gzip left .43 to .49 in three tried.
    field = x**2 + y**2 < 1
    tissue = np.where(spine, 500.0, np.where(organ, 110.0, np.where(body, 30.0, -1000.0)))
    affine = np.diag((-0.7, -0.7, 1.0, 1.0))
    for name, dtype in (("imagesTr", np.int16), ("labelsTr", np.uint8)):
        (folder / name).mkdir(parents=True)
        header = nib.Nifti1Image(np.zeros((1, 1, 1), dtype), affine).header
        header.set_data_shape(shape)
        path = folder / name / "liver_0.nii.gz"
        with gzip.open(path, "wb", compresslevel=6) as stream:
            stream.write(header.binaryblock + bytes(4))
            for k in range(count):
                if dtype is np.uint8:
                    plane = organ & (0.5 < k / count < 0.8)
                else:
                    noise = generator.normal(0, 20, size=field.shape)
                    plane = np.where(field, np.rint(tissue + noise), -1024.0)
                stream.write(plane.astype(dtype).tobytes(order="F"))
        shutil.copyfile(path, path.with_name("liver_1.nii.gz"))
    return folder / "imagesTr" / "liver_0.nii.gz"


def measure(what: str, folder: Path) -> dict[str, float]:
    """Do the work once in this process: seconds, and the process's peak memory in GB."""
    if what == "extraction":
        benchmark = Decathlon(DecathlonOptions(data=folder, train_volumes=1, test_volumes=1))
        source = benchmark.sources()[0]
        start = time.perf_counter()
        assert len(benchmark.read(source)) == 10
    else:
        start = time.perf_counter()
        for _ in range(2):
            image = nib.load(folder / "imagesTr" / "liver_0.nii.gz")
            np.asanyarray(image.dataobj.get_unscaled())
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory and time of reading one large CT volume.")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 500), metavar="N")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child[0], Path(arguments.child[1]))))
        return 0
    results: dict[str, list[dict[str, float]]] = {what: [] for what in NAMES}
    with tempfile.TemporaryDirectory() as place:
        image = write_task(Path(place) / "Task03_Liver", tuple(arguments.shape))
        raw = 2 * int(np.prod(arguments.shape))
        print(f"Image of {image.stat().st_size / 1e6:.0f} MB, {raw / 1e6:.0f} MB inflated.")
        for _ in range(arguments.repeats):
            for what in NAMES:
                command = [sys.executable, __file__, "--child", what, str(image.parents[1])]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results[what].append(json.loads(output))
    print("\n| | time, median (lowest to highest) | peak memory |\n|---|---|---|")
    for what, rows in results.items():
        seconds = sorted(row["seconds"] for row in rows)
        print(
            f"| {NAMES[what]} | {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {max(row['gb'] for row in rows):.2f} GB |"
        )
    ours, theirs = (statistics.median(row["seconds"] for row in results[what]) for what in NAMES)
    peak = max(row["gb"] for row in results["extraction"])
    print(f"\nExtraction takes {ours / theirs:.2f} of nibabel's time (at most 1).")
    print(f"Extraction peaks at {peak:.2f} GB (below {MEMORY_LIMIT_GB}).")
    packages = ", ".join(f"{name} {version(name)}" for name in ("nibabel", "isal", "numpy"))
    print(f"Python {platform.python_version()}, {packages}, {platform.system()} {platform.machine()}.")
    return 0 if ours <= theirs and peak < MEMORY_LIMIT_GB else 1


if __name__ == "__main__":
    sys.exit(main())
