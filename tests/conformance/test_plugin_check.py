"""`cbirbench plugins check`, and all checks at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cbirbench.cli import app
from cbirbench.conformance import fresh_process

METRIC = """
from cbirbench.interfaces import Options, Plugin, option

class MetricOptions(Options):
    k: int = option({default}, description="[bold]Neighbours[/] looked at.", ge=1)

class Metric(Plugin):
    interface_version = {version}
    options_type = MetricOptions
    needs, depth, name = "ranking", 1, "share@[red]5"

    def per_query(self, evidence):
        return (evidence.gallery_labels[evidence.neighbours[:, 0]] == evidence.query_labels) * {factor}
"""


def check(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["plugins", "check", *arguments], env={"COLUMNS": "80"})


def metric_source(**changes: Any) -> dict[str, str]:
    return {"other": METRIC.format(**{"default": 5, "version": 1, "factor": 1.0} | changes)}


@pytest.fixture
def other(install: Any) -> Any:
    """Installs a metric `other`, changed somewhere."""

    def installed(**changes: Any) -> None:
        install("other-plugins", {"metric": {"other": "other:Metric"}}, metric_source(**changes))

    return installed


def test_our_own_metric_passes() -> None:
    done = check("map")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].startswith("metric map, cbirbench ")
    assert "passed   depth               5 neighbours are enough" in done.stdout
    assert "skipped  hand-cases" in done.stdout
    assert done.stdout.splitlines()[-1] == "19 passed, 1 skipped"
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_a_failed_check_says_what_to_do_and_ends_with_1(other: Any) -> None:
    other(factor=100.0)
    done = check("other")
    assert done.exit_code == 1
    shown = " ".join(done.stdout.split())
    assert "failed values Its values lie in 0..100." in shown
    assert "What to do: Give fractions of 1" in shown
    assert "failed declared It has the option k=5, and its name is 'share@[red]5'." in shown
    assert done.stdout.splitlines()[-1].endswith("2 failed, 2 skipped")


def test_json_holds_all_verdicts(other: Any) -> None:
    other(factor=100.0)
    done = check("other", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (report["plugin"], report["kind"], report["distribution"]) == ("other", "metric", "other-plugins")
    assert report["passed"] is False
    outcomes = {verdict["name"]: verdict["outcome"] for verdict in report["verdicts"]}
    assert [name for name, outcome in outcomes.items() if outcome == "failed"] == ["declared", "values"]


@pytest.mark.parametrize(
    ("changes", "name", "found"),
    [
        ({"version": 99}, "interface", "was written for version 99 of the interfaces"),
        ({"version": "'one'"}, "interface", "says 'one'"),
        ({"default": 0}, "options", "other.k does not take 0"),
        ({"factor": "1.0 +"}, "interface", "cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_a_verdict(
    other: Any, changes: dict[str, Any], name: str, found: str
) -> None:
    other(**changes)
    done = check("other", "--json")
    assert done.exit_code == 1, done.output
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert (verdict["name"], verdict["outcome"]) == (name, "failed")
    assert found in verdict["found"]
    assert verdict["remedy"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("nowhere:Metric", "module 'nowhere' is not there"),
        ("other", "names no class"),
        ("other:Nothing", "Nothing"),
    ],
)
def test_a_wrong_entry_point_is_a_verdict(install: Any, value: str, found: str) -> None:
    install("other-plugins", {"metric": {"other": value}}, metric_source())
    done = check("other")
    assert done.exit_code == 1
    assert found in " ".join(done.stdout.split())
    assert "1 failed" in done.stdout


def test_two_plugins_of_one_name_are_a_verdict(install: Any) -> None:
    install("other-plugins", {"metric": {"other": "other:Metric"}}, metric_source())
    install("more-plugins", {"metric": {"other": "other:Metric"}})
    done = check("other")
    assert done.exit_code == 1
    assert "failed entry-point" in " ".join(done.stdout.split())
    assert "more-plugins and other-plugins both provide 'other'" in " ".join(done.stdout.split())
    assert "What to do: Uninstall one of them." in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mapp",), "Did you mean 'map'?"),
        (("../[bold]map",), "There is no plugin called '../[bold]map'."),
        (("map", "--kind", "extractor"), "There is no extractor called 'map'."),
        (("map", "--set", "map.kk=3"), "no option 'kk'"),
        (("map", "--set", "map.k=0"), "map.k does not take '0'"),
        (("map", "--set", "k=3"), "--set takes NAME.OPTION=VALUE"),
        (("map", "--set", "mapp.k=3"), "nothing is called 'mapp'"),
        (("map", "--data", "."), "'map' is no benchmark"),
        (("phantom", "--data", "."), "reads no scans"),
        (("map", "--kind", "thing"), "thing"),
    ],
)
def test_a_mistake_in_the_command_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    done = check(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "Traceback" not in done.output


def test_a_name_of_two_kinds_asks_which(install: Any) -> None:
    install("other-plugins", {"metric": {"hog": "other:Metric"}}, metric_source())
    done = check("hog")
    assert done.exit_code == 2
    assert "extractor, metric" in done.output
    assert "--kind extractor" in done.output
    named = check("hog", "--kind", "metric", "--json")
    failed = {v["name"]: v["found"] for v in json.loads(named.stdout)["verdicts"] if v["outcome"] == "failed"}
    assert "--set hog.OPTION would also reach the extractor hog of cbirbench-hog." in failed["names"]


def test_options_reach_the_plugin_and_idle_ones_are_noted() -> None:
    done = check("map", "--set", "map.k=7", "--set", "hog.cell=8", "--json")
    assert done.exit_code == 0
    assert "--set hog.cell=8 has no effect" in done.stderr
    found = {verdict["name"]: verdict["found"] for verdict in json.loads(done.stdout)["verdicts"]}
    assert found["made"] == "made with k=7"
    assert found["depth"] == "7 neighbours are enough"


def test_a_slip_in_the_name_is_told_before_anything_heavy_is_imported() -> None:
    code = """
import sys
from typer.testing import CliRunner
from cbirbench.cli import app
done = CliRunner().invoke(app, ["plugins", "check", "mapp"])
print(done.exit_code, sorted({"torch", "numpy", "cbirbench.conformance.inspection"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "2 []\n", done.stderr


def test_what_a_plugin_says_is_shown_and_never_obeyed(install: Any) -> None:
    source = METRIC.format(default=5, version=1, factor=1.0).replace(
        "        return ",
        "        raise ValueError('\\x1b]0;title\\x07 [red]x[/] :smile: x')\n        return ",
    )
    install("other-plugins", {"metric": {"other": "other:Metric"}}, {"other": source})
    done = check("other")
    assert done.exit_code == 1
    assert "ValueError: ?]0;title? [red]x[/] :smile: x" in " ".join(done.stdout.split())
    assert "\x1b" not in done.stdout


BENCHMARK = """
from cbirbench.errors import MissingError
from cbirbench.interfaces import Plugin

class Cohort(Plugin):
    interface_version = 1
    synthetic, structures, defaults = False, {1: "liver"}, {}

    def sources(self):
        raise MissingError("There are no scans in /scans.", "Fetch them.")

    def read(self, source): ...
"""


def test_a_benchmark_without_its_data_is_checked_for_what_it_declares(install: Any) -> None:
    install("other-plugins", {"benchmark": {"other": "other:Cohort"}}, {"other": BENCHMARK})
    done = check("other")
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    assert "sources Its scans are not here: There are no scans in /scans. What to do: Fetch them." in shown
    assert done.stdout.splitlines()[-1] == "Its scans are not here: only what it declares was checked."
    closing = json.loads(check("other", "--json").stdout)["closing"]
    assert closing == "Its scans are not here: only what it declares was checked."
    assert json.loads(check("map", "--json").stdout)["closing"] == ""


def test_the_fake_plugins_of_the_suite_pass(fake_plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fresh Python that imports torch takes seconds, for each of them; tests of fresh_process ask for it.
    monkeypatch.setattr(fresh_process, "fingerprint_there", fresh_process._fingerprint)
    light = {"tried": [], "loaded": [], "changed": [], "seconds": 0.0, "failure": ""}
    monkeypatch.setattr(fresh_process, "imported", lambda module: light)
    for name, options, expected in (
        ("purity", (), []),
        ("coverage", (), []),
        ("mirroring", (), []),
        ("brightness", (), ["sizes"]),  # it gives a value for each row of a slice
        ("learned-offset", ("--set", "learned-offset.epochs=2"), ["sizes"]),
        ("blobs", (), []),
    ):
        verdicts = json.loads(check(name, *options, "--json").stdout)["verdicts"]
        failed = [v["name"] for v in verdicts if v["outcome"] == "failed"]
        assert (name, failed) == (name, expected)


def test_data_of_a_benchmark_are_taken(fake_plugins: None, tmp_path: Path) -> None:
    done = check("archived-blobs", "--data", str(tmp_path), "--scans", "1", "--json")
    found = {verdict["name"]: verdict["found"] for verdict in json.loads(done.stdout)["verdicts"]}
    assert found["made"] == f"made with data={tmp_path}"
    assert found["read"] == "4 slices of 2 of its 4 scans"


def test_scans_that_are_not_where_they_were_said_to_be_are_no_excuse(tmp_path: Path) -> None:
    done = check("decathlon", "--data", str(tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert "is no folder" in " ".join(done.stdout.split())
