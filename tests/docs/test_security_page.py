"""What docs/security.md says of when a plugin's code first runs, and of what a run keeps of patients."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cbirbench.cli import app
from cbirbench.registry import GROUPS
from cbirbench.store import Store, cache_folder


@pytest.fixture
def stranger(install) -> str:
    """A plugin of every kind; whether its module was imported is whether it is in sys.modules."""
    entries = {kind: {f"strange-{kind}": "stranger_module:Strange"} for kind in GROUPS}
    install("cbirbench-stranger", entries, {"stranger_module": "class Strange: ...\n"})
    return "stranger_module"


def invoked(command: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "plugins list",
        "plugins list --json",
        "cache",
        "data list",
        "plugins show hog",
        "plugins show map",
    ],
)
def test_a_plugin_that_is_not_asked_for_is_not_imported(command: str, stranger: str) -> None:
    invoked(command)
    assert stranger not in sys.modules


@pytest.mark.parametrize(
    ("command", "code"),
    [("plugins list --check", 1), ("plugins show strange-metric", 1), ("plugins show simsiam", 0)],
)
def test_a_plugin_that_is_asked_for_is_imported(command: str, code: int, stranger: str) -> None:
    invoked(command, code)
    assert stranger in sys.modules


@pytest.mark.usefixtures("fake_plugins")
def test_a_run_imports_what_it_names_alone(
    stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invoked("run blobs --extractors brightness --metrics purity@1 --set purity.k=1 --out out --quiet")
    invoked("report out")
    assert stranger not in sys.modules


@pytest.mark.usefixtures("fake_plugins")
def test_what_is_left_of_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = (
        "run blobs --extractors brightness --metrics purity@1,relevance-rank --set relax.masks=20 --no-pixels"
    )
    invoked(f"{command} --out figures-left")
    assert list(Path("figures-left").glob("figures/retrieval/**/*.png"))
    invoked(f"{command} --explain-queries none --out no-figures")
    assert not list(Path("no-figures").rglob("*.png"))
    for folder in (Path("figures-left"), Path("no-figures")):
        assert sorted(path.name for path in (folder / "slices").iterdir()) == [
            "gallery.safetensors",
            "query.safetensors",
        ]
    kept = [name for path in cache_folder().glob("slices/**/*.safetensors") for name in _arrays(path)]
    assert any(name.startswith("hu/") for name in kept)
    invoked("cache --clear")
    assert sum(usage.entries for usage in Store(cache_folder()).usage()) == 0


def _arrays(path: Path) -> list[str]:
    from cbirbench.store import read_arrays

    return list(read_arrays(path)[0])
