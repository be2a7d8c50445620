"""A run, top to bottom: read slices, train, embed, rank, explain, score, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cbirbench import results
from cbirbench.atomic import write_text
from cbirbench.chance import chance_levels
from cbirbench.environment import environment
from cbirbench.errors import DataError, UsageError
from cbirbench.estimate import announce_long_work
from cbirbench.evaluation import run_once
from cbirbench.explanation_scores import control_rows, explanation_summary
from cbirbench.figures.curves import draw_curves
from cbirbench.interfaces import Progress
from cbirbench.leaks import Leaks, find_leaks
from cbirbench.plan import Plan
from cbirbench.query_sets import QuerySet, named_after, own_queries
from cbirbench.reading import read_benchmark
from cbirbench.report.cohorts import cohorts_of, of_cohort, scores_of
from cbirbench.report.machine import machine_report
from cbirbench.report.markdown import report
from cbirbench.report.scoreboard import Scoreboard, heading, scoreboard
from cbirbench.results import RunOutcome
from cbirbench.retrieval_figures import asked_for
from cbirbench.store import Store, as_json, key_of

PATHS = {"data", "images", "masks", "manifest", "labels"}
"""Options of a benchmark that say where it is: a path is no fact about the data."""


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
    sets = read_all(plan, store, progress)
    check_depth(plan, sets)
    check_asked_for(plan, sets)
    announce_long_work(plan, sets, store, progress)
    # First, so that a metric that fails does so before hours of training.
    controls = [row for one in sets for row in control_rows(plan, one, store, progress)]
    chance = {one.cohort: chance_levels(plan.metrics, one) for one in sets}
    results.claim(out, key, command)
    results.write_slices(out, sets, pixels=plan.request.pixels)
    leaks = find_leaks(plan, sets)
    outcomes = []
    for contender in plan.contenders:
        for run in range(contender.runs):
            for one, outcome in zip(
                sets, run_once(plan, contender, run, sets, out, store, progress), strict=True
            ):
                if run == 0:
                    leaks[one.cohort].look_at(contender, outcome)
                results.write_outcome_arrays(out, outcome)
                outcomes.append(outcome.without_arrays())
    for leak in leaks.values():
        for text in leak.warnings:
            progress.note(f"Warning: {text}")
    for path in store.discarded:
        progress.note(f"A damaged cache entry was thrown away and made again: {path.name}")
    results.write_tables(out, plan.benchmark_plugin.name, sets, outcomes, controls)
    summary = as_json(summarise(plan, sets, outcomes, controls, chance, leaks, command, started))
    boards = write_report(out, summary)
    summary["files"] = results.present(out)
    results.write_summary(out, machine_report(summary, boards))
    results.finish(out, key, command)


def read_all(plan: Plan, store: Store, progress: Progress) -> list[QuerySet]:
    """The benchmark's own queries with its gallery, then those of external cohorts.

    Raises:
        DataError: A scan cannot be used.
        PluginError: A benchmark failed.
    """
    found = read_benchmark(plan.benchmark_plugin, plan.benchmark, plan.sources, store, progress)
    sets = [own_queries(plan, found.gallery, found.queries, found.warnings)]
    for cohort in plan.cohorts:
        read = read_benchmark(cohort.plugin, cohort.benchmark, cohort.sources, store, progress)
        queries = named_after(cohort.name, read.queries)
        alone = plan.request.gallery == "self"
        sets.append(
            QuerySet(
                cohort=cohort.name,
                gallery=queries if alone else found.gallery,
                queries=queries,
                external=True,
                among_themselves=alone,
                synthetic=cohort.synthetic,
                structures=cohort.structures,
                warnings=read.warnings,
            )
        )
    _check_target(sets[0])
    sets = [replace(one, alarms=tuple(_one_sided(one))) for one in sets]
    for one in sets:
        for text in (*one.warnings, *one.alarms):
            progress.note(f"Warning: {text}")
    return sets


def _check_target(own: QuerySet) -> None:
    """Check that some slice of the benchmark shows the target organ.

    Raises:
        DataError: None does: every slice would be retrieved rightly.
    """
    if own.queries.labels.any() or own.gallery.labels.any():
        return
    marked = sorted(
        {
            int(v)
            for item in (*own.queries, *own.gallery)
            if item.mask is not None
            for v in np.unique(item.mask)
        }
    )
    held = ", ".join(str(value) for value in marked if value) or "nothing"
    raise DataError(
        f"No slice of {own.cohort} shows the target organ; the masks of its slices mark {held}.",
        "Check the option targets, the masks, or the labels.",
    )


def _one_sided(one: QuerySet) -> list[str]:
    """Warn where all slices of a side have one label: nothing is then retrieved wrongly, or rightly."""
    sides = {"queries": one.queries, "gallery slices": one.gallery}
    return [
        f"All {len(slices)} {side} of {one.cohort} {'show' if slices.labels.any() else 'lack'} the target "
        "organ: MAP and accuracy say little. Check the masks' values (the option targets) or the labels."
        for side, slices in sides.items()
        if len(set(slices.labels.tolist())) == 1
    ]


def check_depth(plan: Plan, sets: Sequence[QuerySet]) -> None:
    """Check that every gallery has as many slices as each metric looks at.

    Raises:
        UsageError: It has fewer.
    """
    for metric in plan.metrics:
        for one in sets:
            held = one.smallest_gallery
            if metric.depth <= held:
                continue
            if one.among_themselves:
                raise UsageError(
                    f"{metric.name} looks at {metric.depth} neighbours; a query of {one.cohort} has {held} "
                    "slices of other patients to be ranked.",
                    "Give a cohort of more patients, or rank it against the benchmark's gallery: leave "
                    "--gallery self out.",
                )
            raise UsageError(
                f"{metric.name} looks at {metric.depth} neighbours; the gallery has {held} slices.",
                f"Ask for at most {held}: the number after the @ in --metrics.",
            )


def check_asked_for(plan: Plan, sets: Sequence[QuerySet]) -> None:
    """Check that the queries to be drawn exist in some cohort.

    Raises:
        UsageError: One does not.
    """
    asked = plan.request.explain_queries or ()
    known = {slice_id for one in sets for slice_id in one.queries.ids}
    for slice_id in asked:
        if slice_id not in known:
            asked_for(sets[0].queries, [slice_id])


def write_report(out: Path, summary: Mapping[str, Any]) -> list[Scoreboard]:
    """Write report.md and its figures from a run's tables.

    Returns:
        The table of the benchmark's own queries, then those of external cohorts.

    Raises:
        DataError: A table is missing or damaged.
    """
    scores = results.read_table(out, "scores.parquet")
    trained = any(extractor["trained"] for extractor in summary["extractors"])
    training = results.read_table(out, "training.parquet") if trained else None
    curves = results.read_table(out, results.CURVES_TABLE) if (out / results.CURVES_TABLE).is_file() else None
    boards, drawn = [], []
    for cohort in cohorts_of(summary):
        board = scoreboard(of_cohort(summary, cohort), scores_of(scores, summary, cohort))
        boards.append(board)
        part = None if curves is None else scores_of(curves, summary, cohort)
        if part is not None and len(part):
            title = board.title + (" (synthetic data)" if board.synthetic else "")
            headings = {metric: heading(metric) for metric in board.metrics}
            drawn.append(results.curves_figure(cohort))
            draw_curves(part, out / drawn[-1], title=title, headings=headings)
    shown = {**summary, "files": results.present(out), "curve_figures": drawn}
    write_text(out / results.REPORT_FILE, report(shown, scores, training, boards=boards))
    return boards


def summarise(
    plan: Plan,
    sets: Sequence[QuerySet],
    outcomes: Sequence[RunOutcome],
    controls: Sequence[Mapping[str, Any]],
    chance: Mapping[str, Mapping[str, float]],
    leaks: Mapping[str, Leaks],
    command: str,
    started: str,
) -> dict[str, Any]:
    """What summary.json holds, but for the scores."""
    own, *cohorts = sets
    own_outcomes = [outcome for outcome in outcomes if not outcome.external]
    return {
        "benchmark": {
            **_queries_summary(own),
            "chance": chance[own.cohort],
            "name": plan.benchmark_plugin.name,
            "gallery_slices": len(own.gallery),
            "gallery_volumes": len({item.volume_id for item in own.gallery}),
            "data_fingerprint": key_of(
                {"gallery": own.gallery.fingerprint(), "query": own.queries.fingerprint()}
            ),
            "options": plan.benchmark_options.model_dump(mode="json", exclude=PATHS),
            "leakage": leaks[own.cohort].report,
        },
        **_of_queries(own, outcomes, controls),
        "cohorts": [
            {
                **_queries_summary(one),
                "chance": chance[one.cohort],
                "name": one.cohort,
                "gallery": "self" if one.among_themselves else "benchmark",
                "data_fingerprint": one.queries.fingerprint(),
                "options": planned.options.model_dump(mode="json", exclude=PATHS),
                "leakage": leaks[one.cohort].report,
                **_of_queries(one, outcomes, controls),
            }
            for one, planned in zip(cohorts, plan.cohorts, strict=True)
        ],
        "profile": plan.request.profile,
        "profile_title": plan.title,
        "departures": plan.departures,
        "notes": list(plan.notes),
        "extractors": [
            {
                "name": contender.name,
                "plugin": contender.plugin.name,
                "aliases": [contender.alias] if contender.alias else [],
                "trained": contender.trained,
                "floor": contender.floor,
                "runs": contender.runs,
                "training": [
                    {
                        "run": o.run,
                        "seed": o.seed,
                        "resumed_from_epoch": o.resumed_from_epoch,
                        "weights_key": o.weights_key,
                    }
                    for o in own_outcomes
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


def _queries_summary(one: QuerySet) -> dict[str, Any]:
    shares = [item.mask_fraction for item in one.explainable]
    return {
        "synthetic": one.synthetic,
        "query_slices": len(one.queries),
        "query_volumes": len({item.volume_id for item in one.queries}),
        "query_patients": len({item.patient_id for item in one.queries}),
        "query_labels": dict(sorted(Counter(one.queries.labels.tolist()).items())),
        "masked_queries": one.masked,
        "mean_query_mask_fraction": float(np.mean(shares)) if shares else None,
        "structures": one.structures,
        "warnings": one.warnings,
        "alarms": one.alarms,
    }


def _of_queries(
    one: QuerySet, outcomes: Sequence[RunOutcome], controls: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a summary says of the explanations of one set of queries."""
    here = [outcome for outcome in outcomes if outcome.cohort == one.cohort]
    explanations = explanation_summary(here, [row for row in controls if row["cohort"] == one.cohort])
    return {
        **({"explanations": explanations} if explanations else {}),
        "figures": [
            {"extractor": outcome.extractor, "run": outcome.run, **figure}
            for outcome in here
            for figure in outcome.figures
        ],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
