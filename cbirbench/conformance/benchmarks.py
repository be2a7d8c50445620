"""Checks of benchmarks: their declarations, their scans, and the slices of a few of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cbirbench import plugin_facts, registry
from cbirbench.conformance import benchmark_slices, declarations, imports
from cbirbench.conformance.benchmark_reading import ABSENCE, ABSENT, sources_of
from cbirbench.conformance.declarations import sent
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Check, Fault, calling, demand
from cbirbench.interfaces import Options, Source
from cbirbench.leakage import crossing_patients
from cbirbench.settings import validated
from cbirbench.store import as_json, key_of


def synthetic(subject: Subject) -> str:
    """It says whether its scans were made by a program."""
    benchmark = subject.one
    try:
        stated = benchmark.synthetic
    except ABSENCE as error:  # it may stand in a file beside the scans
        raise Beside(f"{ABSENT} see sources.") from error
    demand(
        type(stated) is bool,
        f"synthetic is {stated!r}.",
        "State synthetic = True or False: reports say which.",
    )
    return f"synthetic: {str(stated).lower()}"


def structures(subject: Subject) -> str:
    """It names values of masks, 1 to 255."""
    named = calling(f"{subject.name}.structures", lambda: subject.one.structures)
    remedy = "structures maps a mask's values to names, {1: 'liver'}; {} where none is known."
    demand(isinstance(named, Mapping), f"structures is {type(named).__name__}.", remedy)
    wrong = [
        value
        for value, text in named.items()
        if not (type(value) is int and 1 <= value <= 255 and isinstance(text, str) and text.strip())
    ]
    demand(not wrong, f"structures has {wrong[:3]!r}.", remedy)
    return ", ".join(f"{value}: {text}" for value, text in named.items()) or "no names"


def defaults(subject: Subject) -> str:
    """The options that it sets for others are theirs, with values that they take."""
    given = subject.plugin_class.defaults
    checked, absent = 0, []
    for name, values in given.items():
        types = _options_types(name)
        if not types:
            absent.append(name)
        for owner, options_type in types.items():
            unknown = sorted(values.keys() - options_type.model_fields.keys())
            demand(
                not unknown,
                f"It sets {name}.{unknown[0] if unknown else ''}, but {owner} has no such option.",
                f"`cbirbench plugins show {owner}` lists its options.",
            )
            validated(options_type, values, owner)
            checked += len(values)
    note = f"; not installed: {', '.join(absent)}" if absent else ""
    return f"{checked} options of others{note}"


def _options_types(name: str) -> dict[str, type[Options]]:
    """Whose options a name before the dot sets, by their own names; a family has several members."""
    own = plugin_facts.own_options()
    if name in own:
        return {name: own[name]}
    members = plugin_facts.families().get(name, ())
    return {
        plugin.name: registry.load(plugin).options_type
        for kind in registry.GROUPS
        for plugin in registry.installed(kind)
        if {name, *members} & {*plugin.names} and not plugin_facts.import_problem(plugin)
    }


def sources(subject: Subject) -> str:
    """Its scans are the same whenever they are asked for, gallery first, each with an id of its own."""
    first = sources_of(subject, tell=True)
    again = calling(f"{subject.name}.sources", lambda: subject.make().sources())
    demand(
        [as_json(one) for one in first] == [as_json(one) for one in again],
        "Asked twice, it gives other scans or another order.",
        "Sort what is listed from a folder: cbirbench.numeric_order.",
    )
    ids = [source.volume_id for source in first]
    twice = sorted(one for one, times in Counter(ids).items() if times > 1)
    demand(
        not twice,
        f"{len(twice)} ids of scans come more than once, {twice[0] if twice else ''!r} for one.",
        "Each scan needs an id of its own.",
    )
    sides = [source.split for source in first]
    odd = sorted(set(sides) - {"gallery", "query"})
    demand(not odd, f"It has scans of the split {odd}.", "A split is 'gallery' or 'query'.")
    demand(
        sides == sorted(sides),
        "Queries come before scans of the gallery.",
        "Give the gallery's scans first.",
    )
    counts = {side: sides.count(side) for side in ("gallery", "query")}
    demand(
        min(counts.values()) > 0,
        f"It has {counts['gallery']} scans for the gallery and {counts['query']} for the queries.",
        "Both sides need one at least.",
    )
    return f"{counts['gallery']} scans for the gallery, {counts['query']} for the queries"


def patients_apart(subject: Subject) -> str:
    """No patient is on both sides."""
    found = sources_of(subject)
    sides = [[one.patient_id for one in found if one.split == side] for side in ("gallery", "query")]
    crossing = crossing_patients(sides[0], sides[1])
    demand(
        not crossing,
        f"{len(crossing)} patients are on both sides, {crossing[0] if crossing else ''!r} for one.",
        "Split by patients, not by scans: else retrieval only recognises the patient.",
    )
    return f"{len(set(sides[0]))} and {len(set(sides[1]))} patients, none on both sides"


def fingerprints(subject: Subject) -> str:
    """Each scan's fingerprint is JSON, and tells scans that lie in files from each other."""
    found = sources_of(subject)
    owners: dict[str, str] = {}
    for source in found:
        try:
            json.dumps(as_json(source.fingerprint), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Fault(
                f"The fingerprint of {source.volume_id} is no JSON: {error}.",
                "It is a dict of numbers, texts and lists.",
            ) from error
        other = owners.setdefault(key_of({"fingerprint": as_json(source.fingerprint)}), source.volume_id)
        # A program's scans may differ by their ids alone, which are part of what slices are kept under.
        demand(
            other == source.volume_id or subject.one.synthetic is True,
            f"{source.volume_id} and {other} have one fingerprint: should one be replaced, its old slices "
            "would be used.",
            "Name what shapes the slices: the file with its size and date, and the options.",
        )
    return f"{len(found)} scans, {len(owners)} different fingerprints"


def pickles(subject: Subject) -> str:
    """A process that it is handed to, with its scans, lists the same."""
    found: Sequence[Source] = sources_of(subject)
    there: Any = sent((subject.one, list(found)), "It, or its scans,")
    demand(
        [as_json(one) for one in there[0].sources()] == [as_json(one) for one in found],
        "Pickled and unpickled it has other scans.",
        "Keep what it needs in plain attributes.",
    )
    return "the same scans once pickled and unpickled"


CHECKS: tuple[Check, ...] = (
    *declarations.CHECKS,
    *imports.CHECKS,
    synthetic,
    structures,
    defaults,
    sources,
    patients_apart,
    fingerprints,
    pickles,
    *benchmark_slices.CHECKS,
)
"""All of them, in the order in which they are told."""
