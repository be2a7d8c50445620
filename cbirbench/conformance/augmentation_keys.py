"""Checks of what trainings on an augmentation's views are kept under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cbirbench import keys
from cbirbench.conformance.declarations import fingerprint_of
from cbirbench.conformance.extractor_keys import shapes_results
from cbirbench.conformance.option_values import another
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, demand
from cbirbench.interfaces import Options
from cbirbench.plan import Contender
from cbirbench.store import key_of


def fingerprint(subject: Subject) -> str:
    """Its fingerprint is JSON, and the same for every instance."""
    first, second = fingerprint_of(subject.one, subject), fingerprint_of(subject.make(), subject)
    demand(
        first == second,
        f"Two instances with the same options have different fingerprints: {json.dumps(first)[:80]}.",
        "Name what changes the views, and nothing that differs from one instance to the next.",
    )
    return f"{len(first)} entries, the same for two instances"


def option_keys(subject: Subject) -> str:
    """What was trained on its views is found again with the same options, and not with others."""
    before = _key(subject, subject.options)
    tried, left = [], []
    for name in type(subject.options).model_fields:
        other = another(subject.options, name)
        if other is None:
            left.append(name)
            continue
        shapes = shapes_results(type(subject.options), name)
        demand(
            (_key(subject, other) != before) == shapes,
            f"With {name}={getattr(other, name)} trainings are kept under the same key as with "
            f"{getattr(subject.options, name)}."
            if shapes
            else f"The key of trainings changes with {name}, which says that it shapes no result.",
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


class _Trained:
    """Stands for an extractor that trains on the views, and says so as simsiam does."""

    def __init__(self, augmentation: Any) -> None:
        self.augmentation = augmentation

    def fingerprint(self) -> Mapping[str, Any]:
        """The views' fingerprint."""
        return {"views": self.augmentation.fingerprint()}


def _key(subject: Subject, options: Options) -> str:
    contender = Contender(
        subject.plugin,
        "",
        Options(),
        subject.context("cpu"),
        trained=True,
        runs=1,
        augmentations=(subject.plugin,),
        augmentation_options={subject.name: options},
    )
    extractor: Any = _Trained(subject.make(options))
    return key_of(keys.untrained("cpu", contender, extractor))


CHECKS = (fingerprint, option_keys)
