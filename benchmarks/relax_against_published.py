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
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import relax_xai.relax
import torch
from cbirbench_imagenet import Backbone, BackboneOptions
from scipy.stats import spearmanr
from torch import Tensor, nn

from cbirbench.explain.native import to_native
from cbirbench.explain.relax import Explanation, RelaxOptions, explain
from cbirbench.interfaces import Explainable
from cbirbench.metrics.relevance_rank import RelevanceRank, RelevanceRankOptions
from cbirbench.ranking import Ranking
from cbirbench.reopening import open_run
from cbirbench.scoring import evidence
from cbirbench.slices import Slices, pad_to_square


class Encoder(nn.Module):
    """What the package takes: three channels in, embeddings out."""

    def __init__(self, embed: object) -> None:
        super().__init__()
        self._embed = embed

    def forward(self, images: Tensor) -> Tensor:
        return self._embed(images[:, :1])  # type: ignore[operator]


def published(image: Tensor, encoder: nn.Module, masks: int) -> np.ndarray:
    with torch.no_grad():
        work = relax_xai.relax.RELAX(
            image.expand(-1, 3, -1, -1), encoder, batch_size=100, num_batches=masks // 100
        )
        work()
    return work.importance.cpu().numpy()


def ours(embed: object, image: Tensor, **options: object) -> Explanation:
    return explain(embed, image, RelaxOptions(**options), name="encoder", advance=lambda _: None)[0]  # type: ignore[arg-type]


def timed(work, device: str) -> float:  # type: ignore[no-untyped-def]
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def speed(arguments: argparse.Namespace) -> None:
    device, masks = arguments.device, arguments.masks
    backbone = Backbone(BackboneOptions(backbone=arguments.backbone, weights="random"), device, "imagenet")
    side = backbone.options.image_size
    image = torch.rand(1, 1, side, side, device=device)
    plain = backbone.network.to(memory_format=torch.contiguous_format)
    size = RelaxOptions().block_size(side, side, device)
    published(image, plain, 100)
    rows = [("relax-xai", timed(lambda: published(image, plain, masks), device), float("nan"))]
    backbone.network.to(memory_format=torch.channels_last)
    for precision in ("float32", "bfloat16"):
        embed = backbone.for_explanation(precision)
        batch = torch.rand(size, 1, side, side, device=device)

        def encode(embed=embed, batch=batch) -> None:  # type: ignore[no-untyped-def]
            with torch.inference_mode():
                for _ in range(masks // size):
                    embed(batch)

        with torch.inference_mode():
            embed(batch)
        # The encoder alone before and after, so that a machine that slows down slows both.
        before = timed(encode, device)
        seconds = timed(lambda embed=embed: ours(embed, image, masks=masks), device)  # type: ignore[misc]
        alone = (before + timed(encode, device)) / 2 / (masks // size * size)
        rows.append((f"cbirbench, {precision}", seconds, alone * masks / seconds))
    print(
        f"{arguments.backbone}, {side} px, {masks} masks, one image, {device}, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, relax-xai {version('relax-xai')}\n"
    )
    print(
        "| | seconds | masks/s | times relax-xai | share of the encoder's own rate |\n|---|---|---|---|---|"
    )
    for name, seconds, share in rows:
        shown = "-" if np.isnan(share) else f"{share:.3f}"
        print(f"| {name} | {seconds:.1f} | {masks / seconds:.1f} | {rows[0][1] / seconds:.2f} | {shown} |")
    if device == "cuda":
        print(f"\npeak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


def agreement(arguments: argparse.Namespace) -> None:
    run = open_run(arguments.run)
    extractor = run.contender(arguments.extractor, "cpu").make()
    run.load_weights(extractor, arguments.extractor, 0)
    shown = [item for item in (*run.queries, *run.gallery) if item.shows_target]
    shown.sort(key=lambda item: -item.mask_fraction)
    volumes: dict[str, int] = {}
    order = []
    for item in shown:  # the largest section of each scan first, then the second of each
        volumes[item.volume_id] = volumes.get(item.volume_id, 0) + 1
        order.append((volumes[item.volume_id], item.volume_id, item))
    chosen = [item for *_, item in sorted(order, key=lambda place: place[:2])][: arguments.slices]
    metric = RelevanceRank(RelevanceRankOptions())
    twins = {"float32": extractor.embed}
    if isinstance(extractor, Explainable):
        twins = {p: extractor.for_explanation(p) for p in ("float32", "bfloat16")}
    print("| slice | precision | rank correlation | RR, relax-xai | RR, cbirbench |\n|---|---|---|---|---|")
    for item in chosen:
        image = extractor.prepare(torch.from_numpy(pad_to_square(item.hu)[None]))
        size = image.shape[-2:]
        masks = iter(
            block.render(*size) for block in RelaxOptions().design.blocks(arguments.masks // 100 * 100, 100)
        )
        relax_xai.relax.mask_generator = lambda *_, masks=masks, **__: iter([next(masks)])
        other = published(image, Encoder(extractor.embed), arguments.masks)
        theirs = relevance_rank(metric, item, other)
        for precision, embed in twins.items():
            own = ours(embed, image, masks=arguments.masks // 100 * 100).importance
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
    assert to_native(importance, item.hu.shape).shape == item.hu.shape
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
