"""RELAX here against the published package relax-xai: how much faster, and whether the maps are the same.

``speed``: one image, one encoder, one device and as many masks for all; the package explains it as it ships
(its own masks, batches of 100), then this project in float32 and in bfloat16. The encoder's weights are
random, and speed does not depend on them. Beside each time stands its share of the encoder's own rate at that
precision, measured in the same run on batches that lie ready in memory.

``agreement``: slices of a finished run are explained by both with the same masks (the package's own generator
of masks is replaced, as it draws them with torch's global one). Rank correlation of the maps, and the
relevance rank of each.

    python benchmarks/relax_against_published.py speed
    python benchmarks/relax_against_published.py agreement RUN_DIR --extractor imagenet --slices 5
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import relax_xai.relax
import torch
from cbirbench_imagenet import Backbone, BackboneOptions
from relax_overhead import timed
from relax_reliability import largest_sections
from scipy.stats import spearmanr
from torch import Tensor, nn

from cbirbench.cases.reopening import open_run
from cbirbench.explain.passes import Passes
from cbirbench.explain.relax import Explanation, RelaxOptions, explain
from cbirbench.interfaces import Explainable, Precision
from cbirbench.metrics.relevance_rank import RelevanceRank, RelevanceRankOptions
from cbirbench.ranking import Ranking
from cbirbench.scoring import evidence
from cbirbench.slices import Slices, pad_to_square

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


class Encoder(nn.Module):
    """What the package takes: three channels in, embeddings out."""

    def __init__(self, embed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._embed = embed

    def forward(self, images: Tensor) -> Tensor:
        return self._embed(images[:, :1])


def published(image: Tensor, encoder: nn.Module, masks: int) -> np.ndarray:
    with torch.no_grad():
        work = relax_xai.relax.RELAX(
            image.expand(-1, 3, -1, -1), encoder, batch_size=100, num_batches=masks // 100
        )
        work()
    return work.importance.cpu().numpy()


def ours(embed: Callable[[Tensor], Tensor], image: Tensor, masks: int) -> Explanation:
    return explain(Passes(embed, "encoder"), image, RelaxOptions(masks=masks))


def speed(arguments: argparse.Namespace) -> None:
    device, masks = arguments.device, arguments.masks
    backbone = Backbone(BackboneOptions(backbone=arguments.backbone, weights="random"), device, "imagenet")
    side = backbone.options.image_size
    image = torch.rand(1, 1, side, side, device=device)
    size = RelaxOptions().block_size(side, side, device)
    batch, batches = torch.rand(size, 1, side, side, device=device), min(10, max(1, masks // size))
    plain = backbone.network.to(memory_format=torch.contiguous_format)
    published(image, plain, 100)
    theirs, _ = timed(lambda: published(image, plain, masks), device)
    rows = [("relax-xai", theirs, float("nan"), 0.0)]
    for precision in PRECISIONS:
        embed = backbone.for_explanation(precision)

        def encode(embed: Callable[[Tensor], Tensor] = embed) -> None:
            with torch.inference_mode():
                for _ in range(batches):
                    embed(batch)

        with torch.inference_mode():
            embed(batch)
        # The encoder alone before and after, so that a machine that slows down slows both.
        before, _ = timed(encode, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, _ = timed(partial(ours, embed, image, masks), device)
        peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        after, _ = timed(encode, device)
        alone = (before + after) / 2 / (batches * size)
        rows.append((f"cbirbench, {precision}", seconds, alone * masks / seconds, peak))
    print(
        f"{arguments.backbone}, {side} px, {masks} masks, one image, {device}, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, relax-xai {version('relax-xai')}\n"
    )
    titles = [
        "",
        "seconds",
        "masks/s",
        "times relax-xai",
        "share of the encoder's own rate",
        "peak GiB (GPU)",
    ]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, seconds, share, peak in rows:
        cells = [name, f"{seconds:.1f}", f"{masks / seconds:.1f}", f"{theirs / seconds:.2f}"]
        cells += ["-" if np.isnan(share) else f"{share:.3f}", f"{peak:.2f}" if peak else "-"]
        print(f"| {' | '.join(cells)} |")


def agreement(arguments: argparse.Namespace) -> None:
    run = open_run(arguments.run)
    _, extractor = run.extractor(arguments.extractor, 0, "cpu")
    metric = RelevanceRank(RelevanceRankOptions())
    twins: dict[str, Callable[[Tensor], Tensor]] = {"float32": extractor.embed}
    if isinstance(extractor, Explainable):
        twins = {precision: extractor.for_explanation(precision) for precision in PRECISIONS}
    print("| slice | precision | rank correlation | RR, relax-xai | RR, cbirbench |\n|---|---|---|---|---|")
    for item in largest_sections(run, arguments.slices):
        image = extractor.prepare(torch.from_numpy(pad_to_square(item.hu)[None]))
        size, count = image.shape[-2:], arguments.masks // 100 * 100
        masks = iter(block.render(*size) for block in RelaxOptions().design.blocks(count, 100))
        relax_xai.relax.mask_generator = lambda *_, masks=masks, **__: iter([next(masks)])
        other = published(image, Encoder(extractor.embed), count)
        theirs = relevance_rank(metric, item, other)
        for precision, embed in twins.items():
            own = ours(embed, image, count).importance
            agreed = spearmanr(own.ravel(), other.ravel()).statistic
            rank = relevance_rank(metric, item, own)
            print(
                f"| {item.volume_id} {item.z_index} | {precision} | {agreed:.5f} | {100 * theirs:.2f} | "
                f"{100 * rank:.2f} |",
                flush=True,
            )


def relevance_rank(metric: RelevanceRank, item, importance: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    slices, nothing = Slices((item,)), np.zeros((1, 1), dtype=np.float32)
    ranking = Ranking(np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0)))
    found = evidence(slices, slices, [nothing, nothing], ranking, {item.slice_id: importance})
    return float(metric.per_query(found)[0])


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("speed")
    first.add_argument("--backbone", default="resnet50.tv_in1k")
    first.add_argument("--masks", type=int, default=3000)
    first.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    first.set_defaults(work=speed)
    second = commands.add_parser("agreement")
    second.add_argument("run", type=Path)
    second.add_argument("--extractor", default="imagenet")
    second.add_argument("--slices", type=int, default=5)
    second.add_argument("--masks", type=int, default=3000)
    second.set_defaults(work=agreement)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
