"""Checks of what an extractor's results are cached under: its fingerprint and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from types import ModuleType
from typing import Any

import numpy as np

from cbirbench import keys
from cbirbench.conformance import fresh_process
from cbirbench.conformance.declarations import fingerprint_of
from cbirbench.conformance.extractor_calls import usual, vectors_of
from cbirbench.conformance.opened_files import opened_files
from cbirbench.conformance.option_values import another
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Fault, demand
from cbirbench.errors import CbirbenchError
from cbirbench.interfaces import Context, Options, Trainable
from cbirbench.option_tables import declared
from cbirbench.plan import Contender
from cbirbench.store import key_of


def fingerprint(subject: Subject) -> str:
    """Its fingerprint is JSON, the same for every instance, and embedding does not change it."""
    first = fingerprint_of(subject.one, subject)
    with opened_files() as files:
        second = subject.make()
    other = fingerprint_of(second, subject)
    demand(
        other == first,
        f"Two instances with the same options have different fingerprints{_where(first, other)}.",
        "Name what changes the output, and nothing that differs between instances: no time, no id().",
    )
    held = {} if first else dict(_held(second))
    # What the code itself computes, a bank of filters say, is decided by source, options and versions.
    learned = [name for name, is_network in held.items() if is_network or files]
    demand(
        not learned,
        f"It holds weights ({', '.join(learned[:3])})"
        + (f", reads {files[0]}" if files else "")
        + ", and its fingerprint is empty: what was cached with other weights would be used.",
        "Name them: return {'weights': SHA-256 of the file}, or the seed that they were drawn with.",
    )
    slices, _ = usual(subject)
    vectors_of(subject, slices, second)
    demand(
        fingerprint_of(second, subject) == first,
        f"Embedding changes the fingerprint{_where(first, fingerprint_of(second, subject))}.",
        "Work it out once, when the extractor is made.",
    )
    note = f"; {', '.join(held)} must follow from code and options alone" if held else ""
    return f"{len(first)} entries, the same for two instances and after embedding{note}"


def _held(instance: Any) -> Iterator[tuple[str, bool]]:
    """Attributes that hold tensors, in containers or attributes of theirs too, and whether in a network."""
    import torch

    def tensors(value: Any, deeper: int) -> Iterator[bool]:
        if isinstance(value, torch.nn.Module):
            yield from (True for _ in (*value.parameters(), *value.buffers()))
        elif isinstance(value, torch.Tensor):
            yield isinstance(value, torch.nn.Parameter)
        elif deeper:
            for part in parts_of(value):
                yield from tensors(part, deeper - 1)

    def parts_of(value: Any) -> Iterable[Any]:
        if isinstance(value, dict):
            return value.values()
        if isinstance(value, list | tuple):
            return value
        no_plugin_s = isinstance(value, type | ModuleType | Options | Context)
        return () if no_plugin_s else getattr(value, "__dict__", {}).values()

    if isinstance(instance, torch.nn.Module) and any(tensors(instance, 0)):
        yield "itself, a torch.nn.Module", True
    for name, value in getattr(instance, "__dict__", {}).items():
        if found := list(tensors(value, 2)):
            yield name, any(found)


def fingerprint_elsewhere(subject: Subject) -> str:
    """Another process has the same fingerprint, or nothing cached would be found again."""
    here = fingerprint_of(subject.one, subject)
    make = {
        "plugin": asdict(subject.plugin),
        "options": subject.options.model_dump(mode="json"),
        "assignments": [str(one) for one in subject.assignments],
    }
    try:
        found = fresh_process.fingerprint_there(make)
    except (ChildProcessError, TimeoutError) as error:
        raise Fault(
            f"A fresh Python that makes it does not come back: {error}.",
            "Making it must end: fetch weights beforehand, and say in a MissingError how.",
        ) from error
    demand(
        "fingerprint" in found,
        f"In a fresh Python it cannot be made with the same options: {found.get('failure')}.",
        "Keep nothing in global variables that making it relies on.",
    )
    there = found["fingerprint"]
    demand(
        here == there,
        f"A fresh Python has another fingerprint{_where(here, there)}.",
        "hash() of texts and the order of sets differ between processes: use hashlib, and sort.",
    )
    return "the same in a fresh Python"


def _where(one: Any, other: Any) -> str:
    """At which entry two fingerprints differ first."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
        return f", in {', '.join(names[:3])}" if names else ""
    return ""


def option_keys(subject: Subject) -> str:
    """What is cached is found again with the same options, and not with others that shape results."""

    def key(options: Options, shapes: bool) -> str | None:
        # One that shapes nothing must be left out by the fingerprint as well, and that takes an instance.
        try:
            extractor = subject.one if shapes else subject.make(options)
        except CbirbenchError:
            return None
        return _key(subject, options, extractor)

    return keys_of_options(
        subject,
        key,
        stays="With {name}={value} the cache key stays: embeddings made with {before} would be used.",
        changes="With {name}={value} the cache key changes, though the option says it shapes no result.",
    )


def keys_of_options(
    subject: Subject, key: Callable[[Options, bool], str | None], *, stays: str, changes: str
) -> str:
    """Hold that a key changes with the options that shape results, and with no others.

    Args:
        subject: The plugin.
        key: Gives the key of options, told whether what differs in them shapes results; None where nothing
            can be made with them.
        stays: What to say where the key should have changed; ``{name}``, ``{value}`` and ``{before}`` stand
            for the option and its two values.
        changes: What to say where it should not have.
    """
    before = key(subject.options, True)
    tried, left = [], []
    for name in type(subject.options).model_fields:
        other = another(subject.options, name)
        shapes = shapes_results(type(subject.options), name)
        found = None if other is None else key(other, shapes)
        if found is None:
            left.append(name)
            continue
        words = {"name": name, "value": getattr(other, name), "before": getattr(subject.options, name)}
        demand(
            (found != before) == shapes,
            (stays if shapes else changes).format(**words),
            "Leave the option to Options.shaping(), as Options has it."
            if shapes
            else "Leave it out of fingerprint().",
        )
        tried.append(name)
    if not tried:
        raise Beside(
            f"No other value can be derived for {', '.join(left)}." if left else "It has no options."
        )
    return f"{len(tried)} options tried" + (f"; not {', '.join(left)}" if left else "")


def options_beside_results(subject: Subject) -> str:
    """Options declared with `result=False` change no digit."""
    beside = [
        name for name in type(subject.options).model_fields if not shapes_results(type(subject.options), name)
    ]
    slices, vectors = usual(subject)
    tried = []
    for name in beside:
        changed = another(subject.options, name)
        if changed is None:
            continue
        try:
            extractor = subject.make(changed)
        except CbirbenchError:
            continue
        demand(
            np.array_equal(vectors_of(subject, slices, extractor), vectors),
            f"{name}={getattr(changed, name)} changes embeddings, though it is declared with result=False.",
            "Declare it without result=False: what was computed with another value must not be used again.",
        )
        tried.append(name)
    if not tried:
        raise Beside("It has no option declared with result=False that could be tried.")
    when = ", before any training" if isinstance(subject.one, Trainable) else ""
    return f"{', '.join(tried)}: the same embeddings{when}"


def shapes_results(options_type: type[Options], name: str) -> bool:
    """Whether an option is declared as one that can change a number."""
    return bool(declared(options_type.model_fields[name]).get("result", True))


def _key(subject: Subject, options: Options, extractor: Any) -> str:
    contender = Contender(subject.plugin, "", options, subject.context("cpu"), trained=False, runs=1)
    return key_of(keys.untrained("cpu", contender, extractor))


CHECKS = (fingerprint, fingerprint_elsewhere, option_keys, options_beside_results)
