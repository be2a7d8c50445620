"""Checks of what trainings on an augmentation's views are kept under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cbirbench import keys
from cbirbench.conformance.declarations import fingerprint_of
from cbirbench.conformance.extractor_keys import keys_of_options
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import demand
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
    return keys_of_options(
        subject,
        lambda options, shapes: _key(subject, options),
        stays="With {name}={value} trainings are kept under the same key as with {before}.",
        changes="The key of trainings changes with {name}, which says that it shapes no result.",
    )


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
