"""What importing a plugin's module does, and its fingerprint in another process."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from cbirbench.conformance import extractor_keys, fresh_process, imports
from cbirbench.conformance.subjects import subject_of
from cbirbench.conformance.verdicts import judged

QUIET = """
import socket

from cbirbench.interfaces import Options, Plugin


class Metric(Plugin):
    interface_version = 1
    options_type = Options
    needs, depth, name = "ranking", 0, "nothing"

    def per_query(self, evidence):
        return evidence.query_labels * 1.0
"""

EXTRACTOR = """
from cbirbench.interfaces import Options, Plugin


class Extractor(Plugin):
    interface_version = 1
    options_type = Options

    def fingerprint(self):
        return {FINGERPRINT}

    def prepare(self, hu): ...

    def embed(self, images): ...
"""


@pytest.fixture
def metric(install: Any) -> Any:
    """Makes the subject of a metric whose module begins with some lines."""

    def made(lines: str, modules: dict[str, str] | None = None) -> Any:
        source = textwrap.dedent(lines) + QUIET
        install(
            "other",
            {"metric": {"nothing": "other_metric:Metric"}},
            {"other_metric": source, **(modules or {})},
        )
        return subject_of("metric", "nothing")

    return made


def test_a_heavy_import_is_found(metric: Any) -> None:
    # A stand-in for the real one, which takes a second.
    subject = metric("import radiomics\n", {"radiomics": ""})
    verdict = judged(imports.light_import, subject)
    assert verdict.outcome == "failed"
    assert verdict.found.startswith("Importing its module loads radiomics (")
    assert judged(imports.offline_import, subject).outcome == "passed"


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('example.org', 443), timeout=1)",
        "socket.socket().connect(('example.org', 443))",
        "socket.getaddrinfo('example.org', 443)",
        "urllib.request.urlopen('http://example.org', timeout=1)",
    ],
)
def test_a_way_into_the_network_is_found_even_where_its_failure_is_hidden(metric: Any, attempt: str) -> None:
    lines = f"""
    import socket, urllib.request
    try:
        {attempt}
    except OSError:
        pass
    """
    verdict = judged(imports.offline_import, metric(lines))
    assert verdict.outcome == "failed"
    assert "tried to reach the network" in verdict.found
    assert "example.org" in verdict.found


def test_a_light_module_passes(metric: Any) -> None:
    subject = metric("")
    assert judged(imports.light_import, subject).outcome == "passed"
    assert judged(imports.offline_import, subject).outcome == "passed"


def test_a_module_that_imports_only_here_is_found(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "set_by_others", True, raising=False)
    verdict = judged(imports.light_import, metric("import sys\nsys.set_by_others\n"))
    assert "importing other_metric raised AttributeError" in verdict.found


def test_a_module_that_ends_python_is_found(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "set_by_others", True, raising=False)
    lines = "import os, sys\nhasattr(sys, 'set_by_others') or os._exit(7)\n"
    verdict = judged(imports.light_import, metric(lines))
    assert "does not come back: exit code 7" in verdict.found


def test_the_network_is_there_again_for_what_is_made_afterwards(metric: Any) -> None:
    metric("")
    found = fresh_process.imported("other_metric")
    assert set(found) == {"tried", "loaded", "changed", "seconds", "failure"}


def test_a_file_of_the_current_folder_hides_no_module(
    metric: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subject = metric("")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "socket.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path / "here")
    verdict = judged(imports.light_import, subject)
    assert verdict.outcome == "passed", verdict


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("import numpy\nnumpy.random.seed(0)\n", "numpy's random state"),
        ("import random\nrandom.seed(0)\n", "random's state"),
        ("import numpy\nnumpy.seterr(all='ignore')\n", "numpy's treatment of errors"),
    ],
)
def test_a_setting_at_import_is_found(metric: Any, lines: str, changed: str) -> None:
    verdict = judged(imports.quiet_import, metric(lines))
    assert verdict.outcome == "failed", verdict
    assert verdict.found == f"Importing its module changes {changed}."


def test_torch_is_compared_with_what_it_was_when_it_was_imported(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "set_by_others", True, raising=False)
    lines = """
    import sys, torch
    if not hasattr(sys, "set_by_others"):
        torch.set_default_dtype(torch.float64)
        torch.rand(1)
    """
    verdict = judged(imports.quiet_import, metric(lines))
    assert verdict.found == (
        "Importing its module changes torch's random state and torch's default dtype."
    ), verdict


def test_an_import_that_fails_is_told_once_and_asked_for_once(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def never_ends(module: str) -> None:
        asked.append(module)
        raise TimeoutError("it did not end within 120 s")

    monkeypatch.setattr(fresh_process, "imported", never_ends)
    subject = metric("")
    verdicts = [judged(check, subject) for check in imports.CHECKS]
    assert [verdict.outcome for verdict in verdicts] == ["failed", "skipped", "skipped"]
    assert verdicts[0].remedy == "Importing a module must only define things."
    assert asked == ["other_metric"]


def test_what_takes_long_to_make_is_imported_in_time(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "SECONDS_TO_MAKE", 0.01)
    source = EXTRACTOR.replace("{FINGERPRINT}", "{}")
    install("other", {"extractor": {"nothing": "other_extractor:Extractor"}}, {"other_extractor": source})
    subject = subject_of("extractor", "nothing")
    verdict = judged(extractor_keys.fingerprint_elsewhere, subject)
    assert verdict.found == "A fresh Python that makes it does not come back: it did not end within 0.01 s."
    assert verdict.remedy.startswith("Making it must end")
    assert {judged(check, subject).outcome for check in imports.CHECKS} == {"passed"}


@pytest.mark.parametrize(
    ("fingerprint", "found"),
    [
        ("{'weights': hash('weights')}", "A fresh Python has another fingerprint, in weights."),
        (
            "{'weights': __import__('sys').set_by_others}",
            "cannot be made with the same options: AttributeError",
        ),
    ],
)
def test_a_fingerprint_of_one_process_is_found(
    install: Any, monkeypatch: pytest.MonkeyPatch, fingerprint: str, found: str
) -> None:
    monkeypatch.setattr(sys, "set_by_others", 1, raising=False)
    source = EXTRACTOR.replace("{FINGERPRINT}", fingerprint)
    install("other", {"extractor": {"nothing": "other_extractor:Extractor"}}, {"other_extractor": source})
    verdict = judged(extractor_keys.fingerprint_elsewhere, subject_of("extractor", "nothing"))
    assert verdict.outcome == "failed", verdict
    assert found in verdict.found
