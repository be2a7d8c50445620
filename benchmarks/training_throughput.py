"""SimSiam's training: our views against PIL's, and the whole step against one on a fixed batch.

In one run, taking turns, medians over the rounds:

1. The views alone, one thread: from int16 HU slices of 512 px, against the usual path, which starts from
   8-bit windowed PIL images in memory (so it is spared the windowing) and takes torchvision's transforms
   image by image: RandomResizedCrop(.2 to 1), ColorJitter(.4, .4, .4, .1) with probability .8,
   RandomGrayscale(.2), RandomHorizontalFlip, ToTensor. Once with three channels, as that path is used; once
   with one.
2. On a CPU: steps of one training of `simsiam-hu-clip` by its own `fit`, by turns on its views and on views
   made beforehand. It tells the two apart where trainings one after the other scatter more than they differ.
3. The whole training, against the same fed by views made beforehand, and by the PIL path in a DataLoader with
   as many workers as cores.

The slices are synthetic: smooth blobs and noise in an ellipse. Weights are random. Neither changes the speed.
Whole epochs are timed, after one to warm up, so what is done between epochs counts for all three feeds.

    python benchmarks/training_throughput.py
    python benchmarks/training_throughput.py --device cuda --backbone resnet50.tv_in1k --image-size 224 \\
        --batch-size 32 --precision bfloat16
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from cbirbench_simsiam import HUClip, HUClipOptions, SimSiamHUClip, SimSiamOptions, ViewOptions, WideWindow
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader, IterableDataset
from torchvision import transforms

from cbirbench.interfaces import Augmentation, Context, Json, Options
from cbirbench.slices import CTSlice, Slices
from cbirbench.windows import NARROW_WINDOW, WIDE_WINDOW, apply_window

SIDE = 512
DISTINCT = 64
"""Different slices; a larger gallery repeats them."""

Pair = tuple[Image.Image, Image.Image]


def synthetic_hu(seed: int) -> np.ndarray:
    """Smooth blobs between fat and bone and 20 HU of noise, in an ellipse; air around it."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(40, 120, (1, 1, 12, 12)))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[0, 0].numpy()
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    hu = np.where((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, smooth, -1000) + rng.normal(0, 20, (SIDE, SIDE))
    return hu.clip(-1024, 3071).astype(np.int16)


def gallery(arrays: Sequence[np.ndarray], count: int) -> Slices:
    return Slices(
        tuple(
            CTSlice(arrays[i % len(arrays)], None, f"synthetic_{i}", f"p{i}", f"s{i}", f"v{i}", 0, 0)
            for i in range(count)
        )
    )


def pil_pairs(arrays: Sequence[np.ndarray], mode: str) -> list[Pair]:
    """Each slice in the wide and in the narrow window, as 8-bit PIL images."""

    def image(hu: np.ndarray, window: tuple[float, float]) -> Image.Image:
        grey = (apply_window(torch.from_numpy(hu), window) * 255).to(torch.uint8).numpy()
        return Image.fromarray(grey).convert(mode)

    return [(image(hu, WIDE_WINDOW), image(hu, NARROW_WINDOW)) for hu in arrays]


def pil_transform(size: int) -> Callable[[Image.Image], Tensor]:
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    return composed


class Feed:
    """An augmentation that ignores the slices it is given."""

    options_type: ClassVar[type[Options]] = ViewOptions

    def fingerprint(self) -> Mapping[str, Json]:
        return {"views": type(self).__name__}

    def sample(self, count: int, generator: Generator) -> Mapping[str, Tensor]:
        return {}


class FixedViews(Feed):
    """The same two views again and again."""

    def __init__(self, views: tuple[Tensor, Tensor]) -> None:
        self._views = views

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        return self._views


class PilSlices(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, pairs: Sequence[Pair], size: int) -> None:
        self._pairs, self._transform = pairs, pil_transform(size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            wide, narrow = self._pairs[int(torch.randint(len(self._pairs), ()))]
            yield self._transform(wide), self._transform(narrow)


class PilViews(Feed):
    """Views from the PIL path in a DataLoader; of three equal channels one goes on, which `fit` stacks."""

    def __init__(self, pairs: Sequence[Pair], size: int, batch_size: int, device: str, workers: int) -> None:
        loader = DataLoader(
            PilSlices(pairs, size), batch_size, num_workers=workers, pin_memory=device == "cuda"
        )
        self._batches: Iterator[list[Tensor]] = iter(loader)

    def close(self) -> None:
        """End the workers."""
        self._batches = iter(())

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        first, second = (
            view.to(hu[0].device, non_blocking=True)[:, :1].contiguous() for view in next(self._batches)
        )
        return first, second


class TakingTurns(Feed):
    """Step by step the one feed, then the other, noting when each step begins."""

    def __init__(self, feeds: Mapping[str, Augmentation], epoch_steps: int, steps: int) -> None:
        self._feeds, self._epoch_steps, self._steps = feeds, epoch_steps, steps
        self._begun: list[float] = []

    def _feed(self, step: int) -> str:
        # The step of an epoch shifts by one from epoch to epoch, so that neither feed keeps the odd ones.
        return list(self._feeds)[(step + step // self._epoch_steps) % len(self._feeds)]

    def sample(self, count: int, generator: Generator) -> Mapping[str, Tensor]:
        self._begun.append(time.perf_counter())
        if len(self._begun) > self._steps:
            raise Timed
        return self._feeds[self._feed(len(self._begun) - 1)].sample(count, generator)

    def apply(
        self, hu: Sequence[Tensor], parameters: Mapping[str, Tensor], size: int
    ) -> tuple[Tensor, Tensor]:
        return self._feeds[self._feed(len(self._begun) - 1)].apply(hu, parameters, size)

    def seconds(self) -> dict[str, list[float]]:
        """How long the steps of each feed took, but for the first epoch and the last step of each."""
        found: dict[str, list[float]] = {name: [] for name in self._feeds}
        for step, (begin, end) in enumerate(itertools.pairwise(self._begun)):
            if step >= self._epoch_steps and (step + 1) % self._epoch_steps:
                found[self._feed(step)].append(end - begin)
        return found


class Timed(Exception):  # noqa: N818
    """Ends a training once it has been timed."""


class Unwatched:
    def wants(self, epoch: int) -> bool:
        return False

    def look(self, epoch: int) -> None:
        raise AssertionError("no epoch is wanted")


class StepClock:
    """Times whole epochs, from the first step of the second one, until enough seconds have passed."""

    def __init__(self, device: str, epoch_steps: int, seconds: float) -> None:
        self._device, self._epoch_steps, self._seconds = device, epoch_steps, seconds
        self._count = 0
        self._start = 0.0
        self.steps_per_second = 0.0

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        yield self._advance

    def note(self, text: str) -> None:
        pass

    def _advance(self, steps: int) -> None:
        self._count += steps
        epoch, step = divmod(self._count - 1, self._epoch_steps)
        if step or not epoch:
            return
        if self._device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if epoch == 1:
            self._start = now
        elif now - self._start >= self._seconds:
            self.steps_per_second = (epoch - 1) * self._epoch_steps / (now - self._start)
            raise Timed


def train(
    augmentation: Augmentation, slices: Slices, clock: StepClock, arguments: argparse.Namespace
) -> None:
    """Train by the real extractor's `fit` until the clock or the augmentation ends it."""
    options = SimSiamOptions(
        backbone=arguments.backbone,
        weights="random",
        image_size=arguments.image_size,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        epochs=1_000_000,
        checkpoint_every=1_000_000,
    )
    extractor = SimSiamHUClip(options, Context(arguments.device, lambda _: augmentation))
    with tempfile.TemporaryDirectory() as folder, suppress(Timed):
        extractor.fit(slices, seed=0, workspace=Path(folder), progress=clock, watcher=Unwatched())


def training_rate(augmentation: Augmentation, slices: Slices, arguments: argparse.Namespace) -> float:
    """Views a second of a training."""
    clock = StepClock(arguments.device, arguments.epoch_steps, arguments.seconds)
    train(augmentation, slices, clock, arguments)
    return clock.steps_per_second * 2 * arguments.batch_size


def view_rate(make: Callable[[], int], seconds: float, device: str) -> float:
    """Views a second; `make` says how many it made."""
    make()
    if device == "cuda":
        torch.cuda.synchronize()
    made, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        made += make()
        if device == "cuda":
            torch.cuda.synchronize()
    return made / (time.perf_counter() - start)


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Rates by round; who goes first alternates, so that a machine that slows down slows all."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name in list(contestants)[:: 1 if turn % 2 == 0 else -1]:
            rates[name].append(contestants[name]())
    return rates


def print_table(title: str, rates: Mapping[str, Sequence[float]], against: Sequence[str]) -> None:
    """One row a contestant: median and range of its rate, and median ratios to others of the same round."""
    heads = [title, "views/s", "range", *(f"against {name}" for name in against)]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, own in rates.items():
        ratios = [
            statistics.median(mine / theirs for mine, theirs in zip(own, rates[other], strict=True))
            for other in against
        ]
        cells = [name, f"{statistics.median(own):.1f}", f"{min(own):.1f} to {max(own):.1f}"]
        print(f"| {' | '.join(cells + [f'{ratio:.3f}' for ratio in ratios])} |", flush=True)


def compare_views(arrays: Sequence[np.ndarray], arguments: argparse.Namespace) -> None:
    size, count = arguments.image_size, arguments.batch_size
    generator = Generator().manual_seed(0)
    chosen = [arrays[i % len(arrays)] for i in range(count)]

    def ours(augmentation: Augmentation, device: str) -> Callable[[], float]:
        hu = [torch.from_numpy(item).to(device) for item in chosen]

        def make() -> int:
            augmentation.apply(hu, augmentation.sample(count, generator), size)
            return 2 * count

        return lambda: view_rate(make, arguments.view_seconds, device)

    def pil(mode: str) -> Callable[[], float]:
        pairs, transform = pil_pairs(chosen, mode), pil_transform(size)

        def make() -> int:
            for pair in pairs:
                for image in pair:
                    transform(image)
            return 2 * count

        return lambda: view_rate(make, arguments.view_seconds, "cpu")

    contestants = {
        "PIL, three channels": pil("RGB"),
        "PIL, one channel": pil("L"),
        "wide-window": ours(WideWindow(ViewOptions()), "cpu"),
        "hu-clip": ours(HUClip(HUClipOptions()), "cpu"),
    }
    if arguments.device == "cuda":
        contestants["hu-clip on the GPU"] = ours(HUClip(HUClipOptions()), "cuda")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = in_turns(contestants, arguments.rounds)
    finally:
        torch.set_num_threads(threads)
    print_table(f"views of {size} px, one thread", rates, against=["PIL, three channels", "PIL, one channel"])


def compare_steps(arrays: Sequence[np.ndarray], arguments: argparse.Namespace) -> None:
    size, batch_size, device = arguments.image_size, arguments.batch_size, arguments.device
    count = batch_size * arguments.epoch_steps
    ours = HUClip(HUClipOptions())
    hu = [torch.from_numpy(arrays[i % len(arrays)]).to(device) for i in range(batch_size)]
    fixed = FixedViews(ours.apply(hu, ours.sample(batch_size, Generator().manual_seed(0)), size))
    # The other feeds get slices of no size, as those who do not use them should not pay for moving them.
    slices, empty = gallery(arrays, count), gallery([np.zeros((2, 2), np.int16)], count)
    pairs = pil_pairs(arrays, "RGB")

    def by_pil() -> float:
        feed = PilViews(pairs, size, batch_size, device, arguments.workers)
        try:
            return training_rate(feed, empty, arguments)
        finally:
            feed.close()

    contestants = {
        "fixed batch": lambda: training_rate(fixed, empty, arguments),
        "hu-clip": lambda: training_rate(ours, slices, arguments),
        "PIL and DataLoader": by_pil,
    }
    rates = in_turns(contestants, arguments.rounds)
    title = f"step of {arguments.backbone}, {size} px, batch {batch_size}, {arguments.precision}"
    print_table(title, rates, against=["fixed batch", "PIL and DataLoader"])


def compare_in_one_training(arrays: Sequence[np.ndarray], arguments: argparse.Namespace) -> None:
    """Steps on our views and on a fixed batch by turns: what slows the machine down slows both."""
    size, batch_size = arguments.image_size, arguments.batch_size
    ours = HUClip(HUClipOptions())
    hu = [torch.from_numpy(arrays[i % len(arrays)]) for i in range(batch_size)]
    fixed = FixedViews(ours.apply(hu, ours.sample(batch_size, Generator().manual_seed(0)), size))
    feed = TakingTurns({"fixed batch": fixed, "hu-clip": ours}, arguments.epoch_steps, arguments.turns)
    clock = StepClock("cpu", arguments.epoch_steps, float("inf"))
    train(feed, gallery(arrays, batch_size * arguments.epoch_steps), clock, arguments)
    seconds = {name: np.array(values) for name, values in feed.seconds().items()}
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    rng = np.random.default_rng(0)
    drawn = [
        np.median(rng.choice(seconds["fixed batch"], len(seconds["fixed batch"])))
        / np.median(rng.choice(seconds["hu-clip"], len(seconds["hu-clip"])))
        for _ in range(2000)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    print(f"\nSteps by turns in one training, {len(seconds['hu-clip'])} of each: median ", end="")
    print(", ".join(f"{name} {1000 * median:.1f} ms" for name, median in medians.items()), end="; ")
    ratio = medians["fixed batch"] / medians["hu-clip"]
    print(f"rate of hu-clip against the fixed batch {ratio:.3f} (bootstrap, 95 %: {low:.3f} to {high:.3f}).")


def read_arguments() -> argparse.Namespace:
    assert __doc__ is not None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="any image model of timm")
    parser.add_argument("--image-size", type=int, default=112, help="px")
    parser.add_argument("--batch-size", type=int, default=20, help="slices")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=cores, help="torch's threads in the training")
    parser.add_argument("--workers", type=int, default=cores, help="the DataLoader's processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15, help="least time of a training's measurement")
    parser.add_argument("--view-seconds", type=float, default=3, help="time of a measurement of views alone")
    parser.add_argument("--epoch-steps", type=int, default=31, help="steps in an epoch; the paper's has 31")
    parser.add_argument("--turns", type=int, default=341, help="steps of the training that takes turns")
    parser.add_argument("--only", choices=["views", "steps", "turns"])
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    gpu = f"{torch.cuda.get_device_name()}, " if arguments.device == "cuda" else ""
    packages = ("torch", "torchvision", "pillow", "timm", "lightly", "pytorch-lightning")
    print(
        f"{gpu}{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{arguments.workers} DataLoader workers; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f". {arguments.rounds} rounds; synthetic slices of {SIDE} px, random weights."
    )
    arrays = [synthetic_hu(seed) for seed in range(DISTINCT)]
    if arguments.only in (None, "views"):
        compare_views(arrays, arguments)
    if arguments.only in (None, "turns") and arguments.device == "cpu":
        compare_in_one_training(arrays, arguments)
    if arguments.only in (None, "steps"):
        compare_steps(arrays, arguments)


if __name__ == "__main__":
    main()
