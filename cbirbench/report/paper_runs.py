"""Finished runs put together for the paper's tables: one data set, each extractor once under each profile."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cbirbench.errors import DataError, UsageError
from cbirbench.report.scoreboard import value_text
from cbirbench.settings import PROFILES

if TYPE_CHECKING:
    import pandas as pd

BACKBONE_OPTIONS = ("backbone", "image_size", "normalise", "window")
"""Options that every learned row must share for the rows to be comparable."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What the tables take from one run's folder.

    Attributes:
        folder: The folder as the user named it.
        summary: Content of ``summary.json``.
        scores: Content of ``scores.parquet``, with a ``cohort`` column where external cohorts were queried.
        parameters: For each trained extractor, how many parameters its kept weights have.
    """

    folder: str
    summary: Mapping[str, Any]
    scores: pd.DataFrame
    parameters: Mapping[str, int]

    @property
    def extractors(self) -> list[str]:
        """Canonical names."""
        return [str(item["name"]) for item in self.summary["extractors"]]


@dataclass(frozen=True, eq=False)
class Column:
    """All runs of one profile as if they were one.

    Attributes:
        profile: Its name.
        summary: `benchmark` of the first run; `extractors`, `metrics`, `departures`, `explanations` and
            `cohorts` of all.
        scores: Scores of all of them.
        parameters: Of all of them.
        folders: Where they come from.
    """

    profile: str
    summary: Mapping[str, Any]
    scores: pd.DataFrame
    parameters: Mapping[str, int]
    folders: tuple[str, ...]

    @property
    def extractors(self) -> dict[str, Mapping[str, Any]]:
        """What the summary says of each extractor, by canonical name."""
        return {str(item["name"]): item for item in self.summary["extractors"]}


def merge(runs: Sequence[FinishedRun]) -> dict[str, Column]:
    """Put runs together by profile.

    Raises:
        UsageError: Two runs are of different data, evaluate one extractor under one profile, or measured by
            different rules under one profile; the message names both folders.
        DataError: A summary lacks what every run's has.
    """
    for run in runs:
        _check_summary(run)
    for run in runs[1:]:
        _check_same_data(runs[0], run)
    columns: dict[str, Column] = {}
    for profile in PROFILES:
        of_profile = [run for run in runs if run.summary["profile"] == profile]
        if of_profile:
            columns[profile] = _column(profile, of_profile)
    return columns


def _column(profile: str, runs: Sequence[FinishedRun]) -> Column:
    import pandas as pd

    owners: dict[str, FinishedRun] = {}
    for position, run in enumerate(runs):
        for name in run.extractors:
            if name in owners:
                raise UsageError(
                    f"{owners[name].folder} and {run.folder} both evaluate {name} under profile {profile}.",
                    "Give one of them: a cell of a table shows one evaluation.",
                )
            owners[name] = run
        for other in runs[:position]:
            _check_same_rules(other, run)
    metrics = dict.fromkeys(str(name) for run in runs for name in run.summary["metrics"])
    departures = {
        (item["plugin"], item["option"], value_text(item["value"])): item
        for run in runs
        for item in run.summary.get("departures", ())
    }
    summary = {
        **runs[0].summary,
        "extractors": [item for run in runs for item in run.summary["extractors"]],
        "metrics": list(metrics),
        "departures": list(departures.values()),
        "explanations": _explanations([run.summary for run in runs]),
        "cohorts": _cohorts(runs),
    }
    return Column(
        profile=profile,
        summary=summary,
        scores=pd.concat([run.scores for run in runs], ignore_index=True),
        parameters={name: count for run in runs for name, count in run.parameters.items()},
        folders=tuple(run.folder for run in runs),
    )


def _cohorts(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """The external cohorts of the runs, each with what all of them say of its explanations.

    Raises:
        UsageError: Two runs have a cohort of one name that is other data, or was ranked otherwise.
    """
    found: dict[str, list[tuple[FinishedRun, Mapping[str, Any]]]] = {}
    for run in runs:
        for entry in run.summary.get("cohorts") or ():
            found.setdefault(str(entry["name"]), []).append((run, entry))
    for name, entries in found.items():
        first, *others = entries
        for run, entry in others:
            for key, what in (("data_fingerprint", "of different slices"), ("gallery", "ranked otherwise")):
                if entry.get(key) != first[1].get(key):
                    raise UsageError(
                        f"The cohorts {name} of {first[0].folder} and of {run.folder} are {what}.",
                        "Run one of them again with the other's --queries and --gallery.",
                    )
    return [
        {**entries[0][1], "explanations": _explanations([entry for _, entry in entries])}
        for entries in found.values()
    ]


def _explanations(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the runs say of their explanations, each of its own extractors; None where none explained."""
    found = [entry for summary in summaries if (entry := summary.get("explanations"))]
    if not found:
        return None
    # The data are the same, and so are the organ's share and what controls score.
    return {
        **found[0],
        "extractors": {
            name: item for entry in found for name, item in (entry.get("extractors") or {}).items()
        },
    }


def fill_command(like: Column, profile: str, extractors: Sequence[str], cohort: str = "") -> str:
    """The command whose run would fill missing cells: same data, rules and backbone as the runs at hand.

    Args:
        like: The runs at hand.
        profile: The profile to run.
        extractors: The extractors that are missing.
        cohort: The external cohort that the table is of; empty for the benchmark's own queries.
    """
    benchmark = str(like.summary["benchmark"]["name"])
    command = ["cbirbench", "run", benchmark, "--extractors", ",".join(extractors), "--profile", profile]
    if "--data" in str(like.summary.get("command", "")):
        command += ["--data", "DIR"]
    if cohort:
        command += ["--queries", f"{cohort}=PATH"]
        entries = like.summary.get("cohorts") or ()
        if any(entry["name"] == cohort and entry.get("gallery") == "self" for entry in entries):
            command += ["--gallery", "self"]
    if like.summary.get("seed"):
        command += ["--seed", str(like.summary["seed"])]
    given: dict[str, str] = {}
    for item in like.summary.get("departures", ()):
        if item["set_by"] != "user":
            continue
        value = item["value"]
        shown = ",".join(map(value_text, value)) if isinstance(value, list) else value_text(value)
        # What is no extractor is the benchmark, run, relax, a metric or an augmentation: the same for all.
        named = item["plugin"]
        at_hand = like.extractors
        takers = _takers(named, item["option"], extractors, at_hand) if named in at_hand else [named]
        for plugin in takers:
            given.setdefault(f"{plugin}.{item['option']}", shown)
    for name, shown in given.items():
        command += ["--set", f"{name}={shown}"]
    return shlex.join(command)


def _takers(plugin: str, option: str, extractors: Sequence[str], at_hand: Collection[str]) -> list[str]:
    """Which extractors of a new run are to have an option as an extractor of a finished one had it.

    One that was not run before takes after its kin, or its row could not be compared.
    """
    takers = [plugin] if plugin in extractors else []
    for name in extractors:
        of_backbone = option in BACKBONE_OPTIONS and {name, plugin} & {"imagenet"}
        both_trained = name.startswith("simsiam-") and plugin.startswith("simsiam-")
        related = {name, plugin} <= {"imagenet", "simsiam-baseline", "simsiam-hu-clip"}
        if name not in at_hand and (both_trained or (of_backbone and related)):
            takers.append(name)
    return takers


def _check_summary(run: FinishedRun) -> None:
    try:
        named = [item["name"] for item in run.summary["extractors"]]
        data = [run.summary["benchmark"][key] for key in ("name", "synthetic", "data_fingerprint")]
        complete = bool(named and data and run.summary["metrics"]) and run.summary["profile"] in PROFILES
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise DataError(
            f"The summary.json of {run.folder} lacks a benchmark, a known profile, extractors or metrics.",
            "Give the folder of a run that this version of cbirbench made, unchanged.",
        )


def _check_same_data(one: FinishedRun, other: FinishedRun) -> None:
    names = [run.summary["benchmark"]["name"] for run in (one, other)]
    prints = [run.summary["benchmark"]["data_fingerprint"] for run in (one, other)]
    if names[0] != names[1]:
        found = f"{one.folder} is of the benchmark {names[0]}, {other.folder} of {names[1]}"
    elif prints[0] != prints[1]:
        found = f"{one.folder} and {other.folder} are of different slices of {names[0]}"
        found += f" (data fingerprints {str(prints[0])[:12]} and {str(prints[1])[:12]})"
    else:
        return
    raise UsageError(
        f"{found}: one table cannot hold both.",
        "Call the command once for each, or run one of them again with the other's benchmark options.",
    )


def _check_same_rules(one: FinishedRun, other: FinishedRun) -> None:
    """Scores of one column are compared with each other, so they must be measured alike."""
    explained = all("relevance-rank" in run.summary["metrics"] for run in (one, other))
    rules = [_rules(run, explained=explained) for run in (one, other)]
    differing = sorted(
        name for name in rules[0].keys() | rules[1].keys() if rules[0].get(name) != rules[1].get(name)
    )
    if differing:
        raise UsageError(
            f"{one.folder} and {other.folder} are of one profile but measured by different rules: "
            f"{', '.join(differing)}.",
            "Run one of them again with the other's values, or give them to separate calls.",
        )


def _rules(run: FinishedRun, *, explained: bool) -> dict[str, str]:
    """Departures that change how extractors are measured, whatever the extractor."""
    plugins = {"run", "relax", "relevance-rank"} if explained else {"run"}
    return {
        f"{item['plugin']}.{item['option']}": value_text(item["value"])
        for item in run.summary.get("departures", ())
        if item["plugin"] in plugins and (item["plugin"], item["option"]) != ("run", "runs")
    }
