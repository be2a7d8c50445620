"""How sure is a RELAX map? Numbers of masks, estimators and split-half reliability against a long reference.

``collect`` embeds some slices under a long row of plain masks and a shorter one of antithetic masks, and
keeps the similarities. ``table`` does the rest without embedding anything. Disjoint stretches of a row stand
for repetitions with other masks. The map of each is compared with the reference, the plain ratio map of all
plain masks but those of the stretch; its split-half reliability with how stretches really agree.

    cbirbench run decathlon --data FOLDER ... --metrics map,knn-accuracy --out RUN_DIR
    python benchmarks/relax_reliability.py collect RUN_DIR --extractors imagenet,hog --slices 3 --out FOLDER
    python benchmarks/relax_reliability.py table FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cbirbench.cases.reopening import FinishedRun, open_run
from cbirbench.explain.estimators import estimate
from cbirbench.explain.masks import MaskBlock, MaskDesign, MaskSums, shift_weights
from cbirbench.explain.native import to_native
from cbirbench.explain.relax import CHECKED_EVERY
from cbirbench.explain.reliability import split_half_reliability
from cbirbench.interfaces import Explainable
from cbirbench.slices import CTSlice, pad_to_square

COUNTS = (250, 500, 1000, 3000)
MOST_REPETITIONS = 20


def largest_sections(run: FinishedRun, count: int) -> list[CTSlice]:
    """Slices that show the organ, one of every scan in turn, its largest section first."""
    shown = sorted(
        (s for s in (*run.queries, *run.gallery) if s.shows_target), key=lambda s: -s.mask_fraction
    )
    of_scan: dict[str, int] = {}
    order = []
    for item in shown:
        of_scan[item.volume_id] = of_scan.get(item.volume_id, 0) + 1
        order.append((of_scan[item.volume_id], item.volume_id, item))
    return [item for *_, item in sorted(order, key=lambda place: place[:2])][:count]


def collect(arguments: argparse.Namespace) -> None:
    run = open_run(arguments.run)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.extractors.split(","):
        extractor: Any = run.extractor(name, 0, "cpu")[1]
        for item in largest_sections(run, arguments.slices):
            path = arguments.out / f"{name}_{item.slice_id}.npz"
            if path.exists():
                continue
            start = time.perf_counter()
            with torch.inference_mode():
                image = extractor.prepare(torch.from_numpy(pad_to_square(item.hu)[None]))
                embed = extractor.embed
                if isinstance(extractor, Explainable):
                    embed = extractor.for_explanation(arguments.precision)
                rows = {
                    "plain": similarities(embed, image, MaskDesign(), arguments.masks),
                    "pairs": similarities(embed, image, MaskDesign(antithetic=True), arguments.pairs),
                }
            temporary = path.with_suffix(".part")
            with temporary.open("wb") as file:
                np.savez(file, **rows, mask=item.target, size=np.array(image.shape[-2:]))
            temporary.rename(path)
            rate = (arguments.masks + arguments.pairs) / (time.perf_counter() - start)
            print(f"{name} {item.slice_id}: {rate:.0f} masks/s", flush=True)


def similarities(
    embed: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, design: MaskDesign, count: int
) -> NDArray[np.float64]:
    def directions(images: torch.Tensor) -> torch.Tensor:
        embeddings = embed(images).double()
        return embeddings / embeddings.norm(dim=1, keepdim=True)

    whole = directions(image)[0]
    blocks = design.blocks(count, 64)
    return torch.cat(
        [directions(image * block.render(*image.shape[-2:])) @ whole for block in blocks]
    ).numpy()


@dataclass(frozen=True)
class Stretch(MaskDesign):
    """The masks of a design from number `first` on."""

    first: int = 0

    def blocks(self, count: int, size: int) -> Iterator[MaskBlock]:
        """The same as a design's, from `first` on."""
        for block in super().blocks(self.first + count, 4096):
            inside = slice(max(0, self.first - block.start), None)
            if len(block.grids[inside]):
                start = max(0, block.start - self.first)
                yield MaskBlock(self, start, block.grids[inside], block.positions[inside])


@dataclass(frozen=True, eq=False)
class Row:
    """What was collected of one slice."""

    name: str
    plain: NDArray[np.float64]
    pairs: NDArray[np.float64]
    mask: NDArray[np.bool_]
    size: tuple[int, int]

    def map(self, kind: str, first: int, count: int, estimator: str) -> tuple[NDArray[np.float64], float]:
        """The map of a stretch of masks, and its reliability."""
        design = Stretch(antithetic=kind == "pairs", first=first)
        values = getattr(self, kind)[first : first + count]
        if estimator == "main effects":
            return main_effects(design, values, self.size), float("nan")
        found = estimate(design, values, *self.size, estimator)  # type: ignore[arg-type]
        return found.importance, split_half_reliability(*found.halves)

    def relevance_rank(self, importance: NDArray[np.float64]) -> float:
        """Eq. 7 at the mask's native size."""
        native = to_native(importance.astype(np.float32), self.mask.shape).ravel()
        top = np.argsort(-native, kind="stable")[: self.mask.sum()]
        return float(self.mask.ravel()[top].mean())


def main_effects(design: Stretch, values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Regression without what it leaves unexplained: least squares on the cells alone."""
    grids = np.concatenate([block.grids for block in design.blocks(len(values), 4096)])
    cells = np.column_stack([np.ones(len(values)), grids.reshape(len(grids), -1) - design.keep])
    effects = np.linalg.lstsq(cells, values, rcond=None)[0][1:].reshape(design.grid, design.grid)
    rows, columns = (shift_weights(design.grid, side, design.shifts).mean(dim=0).numpy() for side in size)
    found: NDArray[np.float64] = rows @ effects @ columns.T
    return found


def explained_by_cells(row: Row) -> float:
    """The share of the similarities' variance that the cells' main effects explain."""
    (block,) = MaskDesign().blocks(len(row.plain), len(row.plain))
    cells = np.column_stack([np.ones(len(block)), block.grids.reshape(len(block), -1)])
    left = row.plain - cells @ np.linalg.lstsq(cells, row.plain, rcond=None)[0]
    return 1 - float(left.var() / row.plain.var())


def sums(row: Row, first: int, count: int) -> NDArray[np.float64]:
    """Sums of similarities times masks, and of masks."""
    design = Stretch(first=first)
    found = MaskSums(design, *row.size, 2)
    values = row.plain[first : first + count]
    weights = np.stack([values, np.ones_like(values)])
    for block in design.blocks(count, 4096):
        found.add(block, weights[:, block.start : block.stop])
    return found.maps()


METHODS = (
    ("ratio", "plain", "ratio"),
    ("mean (eq. 4)", "plain", "mean"),
    ("regression", "plain", "regression"),
    ("main effects alone", "plain", "main effects"),
    ("ratio, antithetic", "pairs", "ratio"),
    ("regression, antithetic", "pairs", "regression"),
)


def table(arguments: argparse.Namespace) -> None:
    by_extractor: dict[str, list[Row]] = {}
    for path in sorted(arguments.folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            row = Row(path.stem, file["plain"], file["pairs"], file["mask"], tuple(file["size"].tolist()))
        by_extractor.setdefault(path.stem.split("_")[0], []).append(row)
    for extractor, rows in by_extractor.items():
        explained = ", ".join(f"{100 * explained_by_cells(row):.0f}" for row in rows)
        print(
            f"\n### {extractor}\n\n{len(rows)} slices, {len(rows[0].plain)} plain masks each; the cells' main"
        )
        print(f"effects explain {explained} % of the similarities' variance.\n")
        print("| estimator | masks | agreement with the reference | RR: sd, points | RR: bias, points "
              "| reliability | maps really agree |\n|---|---|---|---|---|---|---|")  # fmt: skip
        every = [sums(row, 0, len(row.plain)) for row in rows]
        for method in METHODS:
            for count in COUNTS:
                print_method(method, count, rows, every)
        for wanted in (0.8, 0.9, 0.95):
            print_adaptive(wanted, rows, every)


def print_method(
    method: tuple[str, str, str], count: int, rows: list[Row], every: list[NDArray[np.float64]]
) -> None:
    title, kind, estimator = method
    collected = []
    for row, all_sums in zip(rows, every, strict=True):
        repetitions = min(MOST_REPETITIONS, len(getattr(row, kind)) // count)
        maps, agreements, reliabilities, ranks = [], [], [], []
        for number in range(repetitions):
            importance, reliability = row.map(kind, number * count, count, estimator)
            # The first of each antithetic pair is a mask of the plain row: half as many, from half as far.
            half = 1 if kind == "plain" else 2
            used = sums(row, number * count // half, count // half)
            reference = np.divide(*(all_sums - used))
            agreements.append(spearmanr(importance.ravel(), reference.ravel()).statistic)
            maps.append(importance.ravel())
            reliabilities.append(reliability)
            ranks.append(100 * (row.relevance_rank(importance)))
        bias = np.mean(ranks) - 100 * row.relevance_rank(np.divide(*all_sums))
        pairs = list(combinations(range(min(repetitions, 6)), 2))
        real = [spearmanr(maps[i], maps[j]).statistic for i, j in pairs]
        collected.append(
            (np.mean(agreements), np.std(ranks, ddof=1), abs(bias), np.mean(reliabilities), np.mean(real))
        )
    agreement, deviation, bias, reliability, real = np.mean(collected, axis=0)
    sure = "-" if np.isnan(reliability) else f"{reliability:.3f}"
    print(
        f"| {title} | {count} | {agreement:.3f} | {deviation:.2f} | {bias:.2f} | {sure} | {real:.3f} |",
        flush=True,
    )


def print_adaptive(wanted: float, rows: list[Row], every: list[NDArray[np.float64]]) -> None:
    """``--until-reliable``: masks taken, and how the maps it stops at agree with the reference."""
    for estimator in ("ratio", "regression"):
        taken, agreements = [], []
        for row, all_sums in zip(rows, every, strict=True):
            for number in range(5):
                first, count = number * 10_000, 0
                while count < 10_000:
                    count += CHECKED_EVERY
                    importance, reliability = row.map("plain", first, count, estimator)
                    if reliability >= wanted:
                        break
                taken.append(count)
                reference = np.divide(*(all_sums - sums(row, first, count)))
                agreements.append(spearmanr(importance.ravel(), reference.ravel()).statistic)
        print(
            f"| {estimator}, until reliable {wanted:g} "
            f"| {np.mean(taken):.0f} ({min(taken)} to {max(taken)}) | "
            f"{np.mean(agreements):.3f} (lowest {min(agreements):.3f}) | | | | |",
            flush=True,
        )


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("collect")
    first.add_argument("run", type=Path)
    first.add_argument("--extractors", default="imagenet")
    first.add_argument("--slices", type=int, default=3)
    first.add_argument("--masks", type=int, default=100_000)
    first.add_argument("--pairs", type=int, default=12_000)
    first.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    first.add_argument("--out", type=Path, required=True)
    first.set_defaults(work=collect)
    second = commands.add_parser("table")
    second.add_argument("folder", type=Path)
    second.set_defaults(work=table)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
