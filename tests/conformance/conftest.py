"""How these tests ask one question about one class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cbirbench.conformance.inspection import CHECKS
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Verdict, judged
from cbirbench.registry import Kind, Plugin

Judge = Callable[..., Verdict]


@pytest.fixture(scope="session")
def subject() -> Callable[..., Subject]:
    """Makes the subject that a class would be, were it installed."""

    def made(kind: Kind, plugin_class: Any, name: str = "subject", **options: Any) -> Subject:
        plugin = Plugin(kind, name, (), "nowhere:Class", "nobodys", "1.0")
        try:
            chosen = plugin_class.options_type(**options)
        except ValidationError:  # a default out of its own bounds
            chosen = plugin_class.options_type.model_construct()
        return Subject(plugin, plugin_class, chosen)

    return made


@pytest.fixture(scope="session")
def judge(subject: Callable[..., Subject]) -> Judge:
    """Asks one check about a class: its verdict."""

    def verdict(kind: Kind, check: str, plugin_class: Any, name: str = "subject", **options: Any) -> Verdict:
        (asked,) = [one for one in CHECKS[kind] if one.__name__ == check]
        return judged(asked, subject(kind, plugin_class, name, **options))

    return verdict


@pytest.fixture(scope="session")
def caught(judge: Judge) -> Judge:
    """Asks one check about a faulty class, which it must find and say what to do about: its verdict."""

    def verdict(kind: Kind, check: str, faulty: type[Any], found: str) -> Verdict:
        told = judge(kind, check, faulty)
        assert told.outcome == "failed", told
        assert found in told.found
        assert told.remedy
        return told

    return verdict


@pytest.fixture(scope="session")
def every_verdict(subject: Callable[..., Subject]) -> Callable[..., dict[str, Verdict]]:
    """Asks all checks about a class, but for those that need it installed."""

    def verdicts(kind: Kind, plugin_class: Any) -> dict[str, Verdict]:
        made = subject(kind, plugin_class)
        installed = ("interface", "light_import", "offline_import", "quiet_import", "fingerprint_elsewhere")
        return {one.__name__: judged(one, made) for one in CHECKS[kind] if one.__name__ not in installed}

    return verdicts
