"""What RELAX costs beside the encoder: its masked images a second against the encoder's own images a second.

Both are measured in the same process, in turn, through the same ``embed``: once on random batches that lie
ready in memory, once by `explain`, masks, products, similarities, maps and their reliability included. The
encoder is the twin that a run explains with (batch norm folded, channels-last, in the precision asked for);
its weights are random, and speed does not depend on them. On a CPU two more columns hold on a busy machine,
where timings in turn do not meet the same conditions: the ratio of processor times (with OMP_NUM_THREADS=1,
as waiting threads spin), and the share of RELAX's time that passes inside ``embed``.

    python benchmarks/relax_overhead.py
    python benchmarks/relax_overhead.py --device cuda --masks 3000 --images 8
    python benchmarks/relax_overhead.py --memory 300 3000 30000

``--memory`` explains one image in a process of its own for each of these numbers of masks and prints the most
memory that it took.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import timm
import torch
from cbirbench_imagenet import Backbone, BackboneOptions
from torch import Tensor

from cbirbench.explain.passes import Passes
from cbirbench.explain.relax import RelaxOptions, explain
from cbirbench.interfaces import Precision


class Timed:
    """The encoder that explains, and the time that passes inside it."""

    def __init__(self, backbone: str, size: int, device: str, precision: Precision) -> None:
        options = BackboneOptions(backbone=backbone, weights="random", image_size=size)
        self._twin = Backbone(options, device, "imagenet").for_explanation(precision)
        self.inside = 0.0

    def embed(self, images: Tensor) -> Tensor:
        start = time.perf_counter()
        embeddings = self._twin(images)
        self.inside += time.perf_counter() - start
        return embeddings


def timed(work: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds on the clock and of processor time."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - processor


def compare(backbone: str, size: int, arguments: argparse.Namespace) -> None:
    device = arguments.device
    extractor = Timed(backbone, size, device, arguments.precision)
    options = RelaxOptions(masks=arguments.masks, batch_size=arguments.batch_size)
    batch_size = options.block_size(size, size, device)
    images = torch.rand(arguments.images, 1, size, size, device=device)
    # Batches as large as RELAX's: the last of a round is smaller where the masks do not fill it.
    counts = [min(batch_size, options.masks - start) for start in range(0, options.masks, batch_size)]
    batches = {count: torch.rand(count, 1, size, size, device=device) for count in counts}

    def encode() -> None:
        with torch.inference_mode():
            for count in counts * len(images):
                extractor.embed(batches[count])

    def relax_all() -> None:
        for image in images.split(1):
            explain(Passes(extractor.embed, backbone), image, options)

    encode()
    relax_all()
    alone: list[tuple[float, float]] = []
    relax: list[tuple[float, float]] = []
    inside = 0.0
    for turn in range(arguments.rounds):
        # Who goes first alternates, so that a machine that slows down slows both.
        for work, times in [(encode, alone), (relax_all, relax)][:: 1 if turn % 2 == 0 else -1]:
            extractor.inside = 0.0
            times.append(timed(work, device))
            inside += extractor.inside if work is relax_all else 0.0
    count = len(images) * options.masks
    alone_clock, alone_processor = zip(*alone, strict=True)
    relax_clock, relax_processor = zip(*relax, strict=True)
    ratios = [a / r for a, r in zip(alone_clock, relax_clock, strict=True)]
    cells = [
        backbone,
        str(size),
        f"{count / statistics.median(alone_clock):.1f}",
        f"{count / statistics.median(relax_clock):.1f}",
        f"{statistics.median(ratios):.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
        f"{sum(alone_processor) / sum(relax_processor):.3f}" if device == "cpu" else "-",
        f"{inside / sum(relax_clock):.3f}" if device == "cpu" else "-",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def print_memory(counts: list[int]) -> None:
    """The most memory that a process takes which explains one image with so many masks."""
    print("| masks | peak memory, MiB |\n|---|---|")
    for count in counts:
        command = [sys.executable, __file__, "--peak", str(count)]
        peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        print(f"| {count} | {peak} |", flush=True)


def print_peak(count: int) -> None:
    extractor = Timed("test_efficientnet", 96, "cpu", "float32")
    image = torch.rand(1, 1, 96, 96)
    explain(Passes(extractor.embed, "encoder"), image, RelaxOptions(masks=count))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoders",
        nargs="+",
        default=["tf_efficientnet_lite0:112", "tf_efficientnet_lite0:224"],
        help="timm backbones and image sides in pixels, NAME:SIDE",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--masks", type=int, default=128, help="masks an image")
    parser.add_argument("--images", type=int, default=1, help="images explained together")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch-size", type=int, help="masked images a forward pass (default: as in a run)")
    parser.add_argument("--memory", type=int, nargs="+", metavar="MASKS", help="measure peak memory instead")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.peak:
        return print_peak(arguments.peak)
    if arguments.memory:
        return print_memory(arguments.memory)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    print(
        f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, timm {timm.__version__}; {arguments.rounds} rounds of "
        f"{arguments.images} image(s) x {arguments.masks} masks, {arguments.precision}\n"
    )
    titles = ["encoder", "px", "encoder, images/s", "RELAX, images/s", "RELAX / encoder", "by round"]
    titles += ["by processor time", "inside embed"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for encoder in arguments.encoders:
        backbone, _, side = encoder.partition(":")
        compare(backbone, int(side or 224), arguments)


if __name__ == "__main__":
    main()
