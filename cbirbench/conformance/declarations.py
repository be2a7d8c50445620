"""Checks of what every plugin declares: its interface, its version, its options, and that these travel."""

from __future__ import annotations

import inspect
import io
import json
from multiprocessing.reduction import ForkingPickler
from types import UnionType
from typing import Any, Union, get_args, get_origin

from cbirbench import registry
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Fault, demand
from cbirbench.interfaces import Located, Options
from cbirbench.option_tables import option_rows
from cbirbench.plugin_facts import own_options
from cbirbench.settings import profile_values, validated
from cbirbench.store import as_json

ARGUMENTS: dict[registry.Kind, dict[str, int]] = {
    "extractor": {"fingerprint": 0, "prepare": 1, "embed": 1},
    "augmentation": {"fingerprint": 0, "sample": 2, "apply": 3},
    "metric": {"per_query": 1},
    "benchmark": {"sources": 0, "read": 1},
}
"""How many arguments each method is called with."""


def interface(subject: Subject) -> str:
    """It has all that its kind's interface asks for, with methods that take what they are given."""
    expected = dict(ARGUMENTS[subject.plugin.kind])
    if isinstance(subject.plugin_class, type) and issubclass(subject.plugin_class, Located):
        del expected["prepare"]
        expected["prepare_at"] = 2
    for method, count in expected.items():
        function = getattr(subject.plugin_class, method, None)
        demand(
            callable(function),
            f"It lacks the method {method}.",
            f"See cbirbench.interfaces.{subject.plugin.kind.capitalize()}.",
        )
        demand(
            takes(subject.plugin_class, method, count),
            f"{method} cannot be called with {count} arguments besides self.",
            f"See cbirbench.interfaces.{subject.plugin.kind.capitalize()}.{method}.",
        )
    registry.load(subject.plugin)
    return f"complete; written for interface version {subject.plugin_class.interface_version}"


def takes(plugin_class: Any, method: str, count: int) -> bool:
    """Whether a method of a class's instances can be called with so many arguments."""
    function = getattr(plugin_class, method)
    static = inspect.getattr_static(plugin_class, method)
    bound = isinstance(static, staticmethod | classmethod) or inspect.ismethod(function)
    itself = [] if bound else [None]
    try:
        inspect.signature(function).bind(*itself, *[None] * count)
    except TypeError:
        return False
    except ValueError:  # written in another language: it has no signature to look at
        return True
    return True


def made(subject: Subject) -> str:
    """It can be made with its options."""
    subject.made()
    usual = profile_values(type(subject.options), "paper")
    chosen = [f"{name}={value}" for name, value in subject.options if value != usual[name]]
    return f"made with {', '.join(chosen)}" if chosen else "made with its defaults"


def options(subject: Subject) -> str:
    """Each option is typed and described, and its default and its profiles' values fit its bounds."""
    options_type: type[Options] = subject.plugin_class.options_type
    rows = option_rows(options_type)
    remedy = "Declare it with cbirbench.interfaces.option: NAME: TYPE = option(DEFAULT, description=...)."
    for row in rows:
        demand(bool(row.description.strip()), f"The option {row.name} has no description.", remedy)
        demand(
            row.kind not in ("any value", "value"),
            f"The option {row.name} may be anything.",
            f"Give it a type. {remedy}",
        )
        demand(
            not row.required,
            f"The option {row.name} has no default.",
            "Give it one, so that the plugin can be made without any --set; None may stand for 'not given'.",
        )
    for profile in ("paper", "released-code"):
        validated(options_type, profile_values(options_type, profile), subject.name)
    unbounded = [
        name
        for name, info in options_type.model_fields.items()
        if not info.metadata and _is_bare_number(info.annotation)
    ]
    note = f"; without bounds: {', '.join(unbounded)}" if unbounded else ""
    return f"{len(rows)} options, typed and described{note}" if rows else "no options"


def _is_bare_number(annotation: Any) -> bool:
    """Whether a type, or one that it may be besides None, is a number without bounds."""
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_bare_number(part) for part in get_args(annotation))
    return annotation in (int, float)


def names(subject: Subject) -> str:
    """Its names and its options' names clash with nothing."""
    from cbirbench.explain.controls import (
        CONTROLS,  # with it comes torch, which a fresh process can do without
    )

    options_type: type[Options] = subject.plugin_class.options_type
    own = {*subject.plugin.names, *([options_type.family] if options_type.family else [])}
    reserved = {*own_options(), *(CONTROLS if subject.plugin.kind == "extractor" else ())}
    demand(
        not own & reserved,
        f"{sorted(own & reserved)} is cbirbench's own name.",
        "Give the plugin, or its options' family, another name.",
    )
    others = {
        name: f"the {plugin.kind} {plugin.name} of {plugin.distribution}"
        for kind in registry.GROUPS
        for plugin in registry.installed(kind)
        if kind != subject.plugin.kind
        for name in plugin.names
    }
    shared = sorted(own & others.keys())
    demand(
        not shared,
        f"--set {shared[0] if shared else ''}.OPTION would also reach {others[shared[0]] if shared else ''}.",
        "Give one of them another name.",
    )
    unreachable = [name for name in options_type.model_fields if "." in name or not name.isidentifier()]
    demand(not unreachable, f"The option {unreachable} cannot be set.", "Use letters, digits and '_'.")
    return ", ".join(subject.plugin.names)


def travelled(value: Any) -> Any:
    """What a process gets that is handed a value of ours: pickled, in memory, and unpickled."""
    stream = io.BytesIO()
    ForkingPickler(stream).dump(value)
    return ForkingPickler.loads(stream.getvalue())


def sent(value: Any, what: str) -> Any:
    """The same, with what fails told.

    Raises:
        Fault: It does not pickle.
    """
    try:
        return travelled(value)
    except Exception as error:
        raise Fault(
            f"{what} cannot be handed to another process: {type(error).__name__}: {error}.",
            "Its class must stand at the top of its module, and it may hold no lambda, open file or lock.",
        ) from error


def options_travel(subject: Subject) -> str:
    """Its options reach other processes as they are."""
    there = sent(subject.options, "Its options")
    demand(
        there == subject.options,
        f"Other options arrive in another process: {there!r}.",
        "Options hold plain values only.",
    )
    return "equal once pickled and unpickled"


def fingerprint_of(instance: Any, subject: Subject) -> Any:
    """A plugin's fingerprint as JSON.

    Raises:
        Fault: It is none.
    """
    given = instance.fingerprint()
    remedy = "A fingerprint is a dict of numbers, texts and lists: the SHA-256 of weights, a version."
    demand(hasattr(given, "keys"), f"fingerprint gives {type(given).__name__}, not a dict.", remedy)
    try:
        return json.loads(json.dumps(as_json(given), allow_nan=False, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise Fault(f"fingerprint of {subject.name} is no JSON: {error}.", remedy) from error


CHECKS = (interface, options, names, options_travel, made)
