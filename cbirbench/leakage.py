"""Whether queries' patients may be in the gallery: by id, by copies of slices, by what cohorts are known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike, fspath
from typing import Any

from cbirbench.duplicates import DuplicatePair
from cbirbench.numeric_order import numeric_order
from cbirbench.slices import Slices

MOST_LISTED = 20
"""Pairs, and patients, that a summary lists; it counts them all."""

IRCADB_VOLUMES = (*range(28, 45), *range(46, 49))
"""LiTS volumes reported to be the 20 patients of 3D-IRCADb-01, in that order."""

# The public collections whose names are looked for, how they are recognised, and whose scans each is known to
# hold. "lits" and "ircad" must not be part of a word such as splits or circadian.
_NAMES = {
    "3D-IRCADb": r"(3[-_ ]?d|(?<![a-z]))[-_ ]?ircad",
    "LiTS": r"(?<![a-z])lits(?![a-z])|task0?3(?![0-9])|msd[-_ ]?liver",
    "MSD Pancreas": r"task0?7(?![0-9])|msd[-_ ]?pancreas",
    "MSD Spleen": r"task0?9(?![0-9])|msd[-_ ]?spleen",
    "AbdomenCT-1K": r"abdomen[-_ ]?ct[-_ ]?1k",
    "CT-ORG": r"(?<![a-z])ct[-_ ]?org(?![a-z])",
}
_BENCHMARKS = {"decathlon": "LiTS", "pancreas": "MSD Pancreas", "spleen": "MSD Spleen"}
_HOLDS = {
    "LiTS": ("3D-IRCADb",),
    "AbdomenCT-1K": ("LiTS", "MSD Pancreas", "MSD Spleen"),
    "CT-ORG": ("LiTS",),
}


def crossing_patients(gallery: Iterable[str], queries: Iterable[str]) -> list[str]:
    """Patients who are on both sides, in numeric order: liver_2 before liver_10.

    Args:
        gallery: Patient ids of the gallery, in any order and number.
        queries: Patient ids of the queries.
    """
    return sorted(set(gallery) & set(queries), key=numeric_order)


def known_overlaps(
    benchmark: str,
    gallery_patients: Sequence[str],
    cohort_names: Sequence[str],
    cohort_paths: Sequence[str | PathLike[str]],
    *,
    data: str | PathLike[str] = "",
) -> list[str]:
    """Warn of cohorts that are known, by name, to hold patients of the gallery's collection.

    LiTS, which is the Decathlon's Task03_Liver, took in 3D-IRCADb-01: by a reported comparison of the scans
    its volumes 28 to 44 are patients 1 to 17, and 46 to 48 patients 18 to 20
    (github.com/assassint2017/MICCAI-LITS2017, issue 33; earlier lists say 28 to 47). AbdomenCT-1K was made
    from LiTS and the Decathlon's spleen and pancreas, among others (Ma et al. 2021); CT-ORG in large part
    from LiTS (Rister et al. 2020).

    Args:
        benchmark: Name of the benchmark.
        gallery_patients: Patient ids of the gallery.
        cohort_names: What the cohorts are called.
        cohort_paths: Where they lie, one each.
        data: Where the benchmark's data lie, for benchmarks whose own name says nothing.

    Returns:
        One text a cohort concerned: what is shared and what to do.
    """
    known = _BENCHMARKS.get(benchmark) or _collection(benchmark) or _collection(fspath(data))
    found = []
    for name, path in zip(cohort_names, cohort_paths, strict=True):
        other = _collection(name) or _collection(fspath(path))
        if known and other and _parts(known) & _parts(other):
            found.append(_overlap(benchmark, known, gallery_patients, name, other))
    return found


def leakage_report(
    gallery: Slices,
    queries: Slices,
    *,
    by_hash: Sequence[DuplicatePair],
    by_embedding: Mapping[str, Sequence[DuplicatePair] | None] | None = None,
    overlaps: Sequence[str] = (),
    among_themselves: bool = False,
) -> dict[str, Any]:
    """Sum up what speaks for patients on both sides, ready for JSON.

    Args:
        gallery: The gallery's slices.
        queries: The queries' slices.
        by_hash: What `duplicates_by_hash` found between them.
        by_embedding: What `duplicates_by_embedding` found, by extractor.
        overlaps: What `known_overlaps` said.
        among_themselves: Whether the queries are part of the gallery, each without its own patient's slices:
            no patient then crosses.

    Returns:
        ``crossing_patients``, ``known_overlaps``, ``by_hash`` and ``by_embedding`` (by extractor; there
        ``judged`` is False where the embeddings say nothing). Of pairs, everything is counted and at most
        `MOST_LISTED` are listed.
    """
    crossing: list[str] = []
    if not among_themselves:
        crossing = crossing_patients(
            (item.patient_id for item in gallery), (item.patient_id for item in queries)
        )
    return {
        "gallery_slices": len(gallery),
        "query_slices": len(queries),
        "crossing_patients": crossing,
        "known_overlaps": list(overlaps),
        "by_hash": _summed(by_hash, gallery, queries),
        "by_embedding": {
            name: {"judged": False} if pairs is None else {"judged": True, **_summed(pairs, gallery, queries)}
            for name, pairs in (by_embedding or {}).items()
        },
    }


def leakage_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Sentences for the report from what `leakage_report` gave; empty where nothing was found."""
    texts = []
    crossing = summary["crossing_patients"]
    if crossing:
        texts.append(
            f"{_count(len(crossing), 'patient')} in the gallery and among the queries as well: "
            f"{_some(crossing)}. Their slices find their own scan; put each patient on one side."
        )
    texts += summary["known_overlaps"]
    pairs, total = summary["by_hash"], summary["query_slices"]
    if pairs["queries"]:
        kinds = [
            f"{pairs['how'][how]} {text}"
            for how, text in (("identical", "identical"), ("similar", "alike but for noise, size or turning"))
            if pairs["how"].get(how)
        ]
        texts.append(
            f"{pairs['queries']} of {total} query slices have a copy in the gallery under another patient "
            f"({' and '.join(kinds)}, counted a slice and patient): {_some_patients(pairs)}. "
            "Compare these scans; where two are one person's, leave one of them out."
        )
    for name, found in summary["by_embedding"].items():
        if not found["judged"]:
            texts.append(
                f"Copies could not be looked for by the embeddings of {name}: the gallery has one patient, "
                "or they hardly tell its patients apart. Go by the comparison of the images."
            )
        elif found["queries"]:
            texts.append(
                f"{name} places {found['queries']} of {total} query slices far nearer to a gallery slice of "
                f"another patient than patients usually lie: {_some_patients(found)}. "
                "Look at these slices; where two are one person's, leave one of them out."
            )
    return texts


def leakage_findings(summary: Mapping[str, Any]) -> list[str]:
    """The sentences of `leakage_warnings` on what was found, without those on what could not be looked at."""
    judged = {name: found for name, found in summary["by_embedding"].items() if found["judged"]}
    return leakage_warnings({**summary, "by_embedding": judged})


def _summed(pairs: Sequence[DuplicatePair], gallery: Slices, queries: Slices) -> dict[str, Any]:
    pairs = sorted(pairs, key=lambda pair: (pair.how, pair.distance))  # identical before similar
    # Two cohorts may call different slices the same, so each side has names of its own.
    stored, asked = ({item.slice_id: item.patient_id for item in side} for side in (gallery, queries))
    together = Counter((asked[pair.query_id], stored[pair.gallery_id]) for pair in pairs)
    return {
        "queries": len({pair.query_id for pair in pairs}),
        "pairs": len(pairs),
        "how": dict(Counter(pair.how for pair in pairs)),
        "patients": len(together),
        "listed_patients": [
            {"query": query, "gallery": gallery, "slices": slices}
            for (query, gallery), slices in together.most_common(MOST_LISTED)
        ],
        "listed": [{**asdict(pair), "distance": round(pair.distance, 4)} for pair in pairs[:MOST_LISTED]],
    }


def _collection(text: str) -> str:
    """The collection that a name or a path speaks of; empty if none."""
    return next((name for name, pattern in _NAMES.items() if re.search(pattern, text, re.IGNORECASE)), "")


def _parts(collection: str) -> set[str]:
    """A collection and, through all levels, those whose scans it holds."""
    return {collection}.union(*(_parts(part) for part in _HOLDS.get(collection, ())))


def _overlap(benchmark: str, known: str, gallery_patients: Sequence[str], cohort: str, other: str) -> str:
    if {known, other} == {"3D-IRCADb", "LiTS"}:
        reported = "LiTS volumes 28 to 44 and 46 to 48 are reported to be the 20 patients of 3D-IRCADb-01"
        if known == "3D-IRCADb":
            return (
                f"The cohort {cohort!r} is named like LiTS and the benchmark {benchmark!r} like 3D-IRCADb: "
                f"{reported}. Leave these volumes out of the cohort, or do not call it external."
            )
        here = [name for name in gallery_patients if _last_number(name) in IRCADB_VOLUMES]
        listed = f"has {_series(here)}" if here else "has none by its number, but files may be renumbered"
        return (
            f"The cohort {cohort!r} is named like 3D-IRCADb: {reported}. Of these, the gallery of "
            f"{benchmark!r} {listed}. Leave them out of the gallery or their patients out of the cohort, or "
            "do not call it external."
        )
    if known == other:
        why = f"is named like {other}, the collection that the benchmark {benchmark!r} is made of"
    else:
        shared = ", ".join(sorted(_parts(known) & _parts(other)))
        why = f"is named like {other}, which shares scans of {shared} with the benchmark {benchmark!r}"
    return (
        f"The cohort {cohort!r} {why}. Leave those scans out of the cohort, or do not call it external; "
        "copies of slices are looked for in any case."
    )


def _series(names: Iterable[str]) -> str:
    """Names in numeric order, runs of consecutive numbers shortened: liver_28 to liver_30, liver_46."""
    runs: list[list[str]] = []
    for name in sorted(set(names), key=numeric_order):
        if runs and _last_number(name) == _last_number(runs[-1][-1]) + 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _last_number(name: str) -> int:
    """The last number in a name, -1 if it has none."""
    numbers = re.findall(r"[0-9]+", name)
    return int(numbers[-1]) if numbers else -1


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _some_patients(found: Mapping[str, Any]) -> str:
    shown = found["listed_patients"][:3]
    more = found["patients"] - len(shown)
    texts = [f"{item['query']} in {item['gallery']} ({item['slices']})" for item in shown]
    return ", ".join(texts) + (f" and {more} more pairs of patients" if more > 0 else "")
