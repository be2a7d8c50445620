from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cbirbench.cli import app

EXTRACTOR = '''
from cbirbench.interfaces import Options, option

class FlatOptions(Options):
    family = "[b]flats[/b]"
    side: int = option(
        3, description="[red]Side[/red] \\\\ :smile: \\x1b[31m.", unit="[px]", source="[1]", ge=1
    )
    plan: str = option("", description="Plan.")

class Flat:
    """[link=https://evil.org]Flat[/link] features."""
    interface_version = 1
    options_type = FlatOptions
    def __init__(self, options=None, context=None): raise RuntimeError("a factory that raises")
    def fingerprint(self): ...
    def prepare(self, hu): ...
    def embed(self, images): ...
'''


def plugins(*arguments: str, columns: int = 80) -> Result:
    result = CliRunner().invoke(app, ["plugins", *arguments], env={"COLUMNS": str(columns)})
    assert "Traceback" not in result.output
    return result


def listed(result: Result) -> dict[str, Any]:
    return {entry["name"]: entry for entry in json.loads(result.stdout)}


def flat_text(result: Result) -> str:
    """The output on one line, as wrapping is rich's business."""
    return " ".join(result.stdout.split())


# list ----------------------------------------------------------------------------------------------------


def test_the_list_says_how_to_see_options_but_not_among_the_rows() -> None:
    result = plugins("list")
    assert result.exit_code == 0
    assert "cbirbench plugins show NAME" in result.stderr and "show run, show relax" in result.stderr
    assert "cbirbench plugins show" not in result.stdout


def test_the_list_as_json(fake_plugins, install) -> None:
    site = install("gone", {"metric": {"gone": "module_that_is_gone:Gone"}})
    (metadata,) = site.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + "Summary: It is [gone]\n")
    result = plugins("list", "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    entries = listed(result)
    assert entries["brightness-mean"] == {
        "kind": "extractor",
        "name": "brightness-mean",
        "aliases": ["brightness"],
        "distribution": "cbirbench-fake",
        "version": "1.0",
        "summary": "",
        "value": "cbirbench_fake:BrightnessMean",
        "problem": "",
    }
    assert entries["gone"]["summary"] == "It is [gone]"
    assert "'module_that_is_gone' is not there" in entries["gone"]["problem"]
    assert len(json.loads(result.stdout)) == len(entries) >= 20


def test_checking_imports_says_what_is_wrong_and_exits_with_1(fake_plugins, install) -> None:
    install("bomb", {"extractor": {"bomb": "bomb_module:Bomb"}}, {"bomb_module": "raise SystemExit"})
    assert plugins("list").exit_code == 0
    checked = plugins("list", "--check", columns=120)
    assert checked.exit_code == 1
    assert "Broken: bomb (bomb): The extractor 'bomb' of bomb 1.0 cannot be imported" in checked.stderr
    assert checked.stderr.count("Broken") == 1
    assert "learned-offset" in checked.stdout
    as_json = plugins("list", "--check", "--json")
    assert as_json.exit_code == 1
    assert as_json.stderr == ""
    entries = listed(as_json)
    assert entries["bomb"]["interface_version"] is None and "SystemExit" in entries["bomb"]["problem"]
    assert entries["purity"]["interface_version"] == 1 and entries["purity"]["problem"] == ""


def test_what_is_whole_is_checked_with_0() -> None:
    assert plugins("list", "--check").exit_code == 0
    assert all(entry["problem"] == "" for entry in listed(plugins("list", "--check", "--json")).values())


def test_without_check_a_broken_plugin_is_named_and_the_exit_code_is_0(install) -> None:
    install("flat-one", {"extractor": {"flat": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    install("flat-two", {"extractor": {"flat": "flat_two:Flat"}}, {"flat_two": EXTRACTOR})
    install("pathlike", {"metric": {"../x": "../x:X"}})
    install("marked", {"benchmark": {"[red]x[/red]": "marked:X", "\x1b[31mred": "marked:Y"}})
    result = plugins("list", columns=120)
    assert result.exit_code == 0
    assert result.stderr.count("flat-one and flat-two both provide 'flat'") == 2
    assert "Broken: ../x (pathlike): '../x' is not a valid name" in result.stderr
    assert "Broken: [red]x[/red] (marked): '[red]x[/red]' is not a valid name" in result.stderr
    assert "[red]x[/red]" in result.stdout and "../x" in result.stdout and "?[31mred" in result.stdout
    assert "\x1b" not in result.output
    assert "hog" in result.stdout
    assert plugins("list", "--check").exit_code == 1


HEAVY = {
    "numpy",
    "torch",
    "pandas",
    "matplotlib",
    "SimpleITK",
    "pydicom",
    "nibabel",
    "scipy",
    "skimage",
    "faiss",
}


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"], ["show", "--help"]])
def test_listing_loads_neither_a_plugin_nor_anything_heavy(
    install, tmp_path: Path, arguments: list[str]
) -> None:
    site = install(
        "bomb", {"extractor": {"bomb": "bomb_module:Bomb"}}, {"bomb_module": "raise SystemExit(3)"}
    )
    code = (
        "import sys; from cbirbench.cli import app\n"
        f"try: app(['plugins', *{arguments!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('LOADED', *sorted(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert arguments[0] != "list" or "bomb" in done.stdout
    loaded = set(done.stderr.partition("LOADED")[2].split())
    assert "cbirbench.commands.plugins" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    # With the interfaces would come numpy, with the settings the types of all options.
    assert loaded.isdisjoint({"cbirbench.interfaces", "cbirbench.options", "cbirbench.settings"})
    assert not any(
        name.startswith(("bomb", "cbirbench_", "cbirbench.metrics", "cbirbench.datasets")) for name in loaded
    )


# show ----------------------------------------------------------------------------------------------------


def test_a_page_fits_80_columns_and_says_what_each_option_takes() -> None:
    result = plugins("show", "simsiam")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = flat_text(result)
    for words in (
        "simsiam-baseline (also simsiam) - extractor",
        "cbirbench-simsiam 0.1.0",
        "Apache-2.0",
        "cbirbench_simsiam.extractor:SimSiamBaseline",
        "interface version 1",
        "learns from the gallery before it is evaluated",
        "has a cheaper twin for explanations",
        "--set simsiam.OPTION=VALUE sets an option of simsiam-baseline and simsiam-hu-clip",
        "Options, set with --set simsiam-baseline.OPTION=VALUE:",
        "epochs 250 whole number, 1 or more (epochs) Passes over the gallery. Source: section 8.",
        "window -200,300 LOW,HIGH in HU, or an organ's name HU window",
        "In released-code: true.",
        "No departure from the protocol.",
        "Changes no result.",
    ):
        assert words in said


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("name", ["run", "relax", "phantom", "hu-clip", "folder", "pointing-game"])
def test_every_page_keeps_to_its_width(name: str, columns: int) -> None:
    result = plugins("show", name, columns=columns)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= columns


def test_a_benchmark_says_what_it_sets_for_others() -> None:
    assert "sets run.runs=1, imagenet.backbone=" in flat_text(plugins("show", "phantom"))


def test_a_metric_says_what_it_needs_and_one_without_options_that_it_has_none(fake_plugins) -> None:
    said = flat_text(plugins("show", "coverage"))
    assert "needs explanations" in said and said.endswith("It has no options.")


def test_the_run_itself() -> None:
    said = flat_text(plugins("show", "run"))
    assert said.startswith("run - no plugin, but options of cbirbench itself")
    assert "runs 20 whole number, 1 or more" in said


def test_a_name_of_several_kinds_gives_several_pages(install, fake_plugins) -> None:
    install("more", {"metric": {"mirroring": "cbirbench_fake:Purity"}})
    both = flat_text(plugins("show", "mirroring"))
    assert "mirroring - augmentation" in both and "mirroring - metric" in both
    assert "mirroring - augmentation" not in flat_text(plugins("show", "mirroring", "--kind", "metric"))


def test_a_page_as_json() -> None:
    result = plugins("show", "hog", "--json")
    ((facts),) = json.loads(result.stdout)
    assert (facts["kind"], facts["name"], facts["package"]["name"]) == ("extractor", "hog", "cbirbench-hog")
    assert facts["options"][2] == {
        "name": "cell",
        "kind": "whole number, 1 or more",
        "default": "9",
        "unit": "px",
        "source": "section 8.4",
        "profiles": {},
        "description": "Side of a cell.",
        "shapes_results": True,
        "protocol": True,
        "required": False,
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], ["No plugin was named", "cbirbench plugins list"]),
        (["hogg"], ["'hogg'", "Did you mean 'hog'?", "cbirbench plugins list"]),
        (["hog", "--kind", "metric"], ["'hog' is no metric", "--kind extractor"]),
        (["hog", "--kind", "extractors"], ["extractors", "extractor"]),
        (["../x"], ["'../x'"]),
        (["[red]x[/red]"], ["'[red]x[/red]'"]),
        (["\x1b[31mx"], [r"'\x1b[31mx'"]),
    ],
)
def test_a_wrong_name_is_a_usage_error(arguments: list[str], says: list[str]) -> None:
    result = plugins("show", *arguments, columns=200)
    assert result.exit_code == 2, result.output
    for words in says:
        assert words in result.stderr
    assert result.stdout == "" and "\x1b" not in result.stderr


def test_somebody_elses_text_is_shown_and_not_interpreted(install) -> None:
    site = install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    (metadata,) = site.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + "Summary: [blink]Flat[/blink] :warning: \\\n")
    result = plugins("show", "flat", columns=200)
    assert result.exit_code == 0
    for words in (
        "[link=https://evil.org]Flat[/link] features.",
        "[blink]Flat[/blink] :warning: \\",
        "--set [b]flats[/b].OPTION=VALUE",
        "[red]Side[/red] \\ :smile: ?[31m.",
        "whole number, 1 or more ([px])",
        "Source: [1].",
        "(empty)",
    ):
        assert words in result.stdout
    assert "\x1b" not in result.output


@pytest.mark.parametrize("name", ["../x", "[red]x[/red]"])
def test_a_broken_plugin_is_shown_as_far_as_it_is_known_with_1(install, name: str) -> None:
    install("flawed", {"extractor": {name: "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    result = plugins("show", name)
    assert result.exit_code == 1
    assert f"{name} - extractor" in result.stdout and "flawed 1.0" in result.stdout
    assert f"Broken: {name!r} is not a valid name" in result.stderr
    as_json = plugins("show", name, "--json")
    assert as_json.exit_code == 1
    assert "is not a valid name" in json.loads(as_json.stdout)[0]["problem"]
