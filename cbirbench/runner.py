"""A run, top to bottom: read slices, train, embed, rank, explain, score, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cbirbench import keys, results
from cbirbench.atomic import write_text
from cbirbench.environment import environment
from cbirbench.errors import UsageError
from cbirbench.estimate import announce_long_work
from cbirbench.evaluation import run_once
from cbirbench.explanation_scores import control_rows, explanation_summary
from cbirbench.figures.curves import draw_curves
from cbirbench.interfaces import Progress
from cbirbench.plan import Plan
from cbirbench.reading import read_benchmark
from cbirbench.report.machine import machine_report
from cbirbench.report.markdown import report
from cbirbench.report.scoreboard import Scoreboard, heading, scoreboard
from cbirbench.results import RunOutcome
from cbirbench.retrieval_figures import asked_for
from cbirbench.slices import Slices
from cbirbench.store import Store, as_json, key_of


def execute(plan: Plan, out: Path, store: Store, progress: Progress, command: str) -> None:
    """Carry out a plan and write its folder.

    Whatever is finished is in the cache at once, so that the same command goes on where this one stopped.

    Args:
        plan: What to do.
        out: The run's folder.
        store: The cache.
        progress: Where to report.
        command: The command as typed, for the records.

    Raises:
        CbirbenchError: Something failed; `out` then holds no half-written file.
    """
    started = _now()
    key = plan.key()
    results.check_free(out, key)
    gallery, queries = read_benchmark(plan.benchmark_plugin, plan.benchmark, plan.sources, store, progress)
    check_depth(plan, gallery)
    asked_for(queries, plan.request.explain_queries or ())
    announce_long_work(plan, gallery, queries, store, progress)
    # First, so that a metric that fails does so before hours of training.
    controls = control_rows(plan, gallery, queries, store, progress)
    results.claim(out, key, command)
    results.write_slices(out, gallery, queries, pixels=plan.request.pixels)
    outcomes = []
    for contender in plan.contenders:
        for run in range(contender.runs):
            outcome = run_once(plan, contender, run, gallery, queries, out, store, progress)
            results.write_outcome_arrays(out, outcome)
            outcomes.append(outcome.without_arrays())
    for path in store.discarded:
        progress.note(f"A damaged cache entry was thrown away and made again: {path.name}")
    results.write_tables(out, plan.benchmark_plugin.name, gallery, queries, outcomes, controls)
    summary = as_json(summarise(plan, gallery, queries, outcomes, controls, command, started))
    board = write_report(out, summary)
    summary["files"] = results.present(out)
    results.write_summary(out, machine_report(summary, board))
    results.finish(out, key, command)


def check_depth(plan: Plan, gallery: Slices) -> None:
    """Check that the gallery has as many slices as each metric looks at.

    Raises:
        UsageError: It has fewer.
    """
    for metric in plan.metrics:
        if metric.depth > len(gallery):
            raise UsageError(
                f"{metric.name} looks at {metric.depth} neighbours; the gallery has {len(gallery)} slices.",
                f"Ask for at most {len(gallery)}: the number after the @ in --metrics.",
            )


def write_report(out: Path, summary: Mapping[str, Any]) -> Scoreboard:
    """Write report.md and its figure from a run's tables.

    Raises:
        DataError: A table is missing or damaged.
    """
    scores = results.read_table(out, "scores.parquet")
    trained = any(extractor["trained"] for extractor in summary["extractors"])
    training = results.read_table(out, "training.parquet") if trained else None
    board = scoreboard(summary, scores)
    if (out / results.CURVES_TABLE).is_file():
        title = board.title + (" (synthetic data)" if board.synthetic else "")
        headings = {metric: heading(metric) for metric in board.metrics}
        curves = results.read_table(out, results.CURVES_TABLE)
        draw_curves(curves, out / results.CURVES_FIGURE, title=title, headings=headings)
    shown = {**summary, "files": results.present(out)}
    write_text(out / results.REPORT_FILE, report(shown, scores, training, board=board))
    return board


def summarise(
    plan: Plan,
    gallery: Slices,
    queries: Slices,
    outcomes: Sequence[RunOutcome],
    controls: Sequence[Mapping[str, Any]],
    command: str,
    started: str,
) -> dict[str, Any]:
    """What summary.json holds, but for the scores."""
    shown = [item.mask_fraction for item in queries if keys.explainable(item)]
    explanations = explanation_summary(outcomes, controls)
    return {
        "benchmark": {
            "name": plan.benchmark_plugin.name,
            "synthetic": plan.benchmark.synthetic,
            "gallery_slices": len(gallery),
            "query_slices": len(queries),
            "gallery_volumes": len({item.volume_id for item in gallery}),
            "query_volumes": len({item.volume_id for item in queries}),
            "query_patients": len({item.patient_id for item in queries}),
            "mean_query_mask_fraction": float(np.mean(shown)) if shown else None,
            "data_fingerprint": key_of({"gallery": gallery.fingerprint(), "query": queries.fingerprint()}),
            "structures": plan.benchmark.structures,
            "options": plan.benchmark_options.model_dump(mode="json", exclude={"data"}),
        },
        "profile": plan.request.profile,
        "profile_title": plan.title,
        "departures": plan.departures,
        "notes": list(plan.notes),
        "extractors": [
            {
                "name": contender.name,
                "aliases": [contender.alias] if contender.alias else [],
                "trained": contender.trained,
                "runs": contender.runs,
                "training": [
                    {
                        "run": o.run,
                        "seed": o.seed,
                        "resumed_from_epoch": o.resumed_from_epoch,
                        "weights_key": o.weights_key,
                    }
                    for o in outcomes
                    if o.extractor == contender.name and o.seed is not None
                ],
                "distribution": contender.plugin.distribution,
                "version": contender.plugin.version,
                "options": contender.options,
                "fingerprint": contender.make().fingerprint(),
            }
            for contender in plan.contenders
        ],
        "augmentations": {
            name: options.model_dump(mode="json")
            for contender in plan.contenders
            for name, options in contender.augmentation_options.items()
        },
        "metrics": [metric.name for metric in plan.metrics],
        **({"explanations": explanations} if explanations else {}),
        "figures": [
            {"extractor": outcome.extractor, "run": outcome.run, **figure}
            for outcome in outcomes
            for figure in outcome.figures
        ],
        "seed": plan.request.seed,
        "distance": plan.run_options.distance,
        "run_options": plan.run_options,
        "relax": plan.relax,
        "device": plan.device,
        "command": command,
        "run_key": plan.key(),
        **environment(plan),
        "started": started,
        "finished": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
