from __future__ import annotations

from pathlib import Path

import plugin_page
import pytest

from cbirbench import registry

ROOT = Path(__file__).parents[2]


def test_the_catalogue_says_what_a_plugin_is_and_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [plugin for plugin in registry.installed("metric") if plugin.name == "map"]
    monkeypatch.setattr(registry, "installed", lambda kind: found if kind == "metric" else [])

    page = plugin_page.page(ROOT)

    assert "### map {: #metric-map }" in page
    assert "From cbirbench; interface version 1." in page
    (row,) = [line for line in page.splitlines() if line.startswith('| <code class="whole">k</code>')]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "Deepest neighbour looked at."
    assert "1 or more" in cells[2]
    assert "neighbours" in cells[2]
    assert "<code>5</code>" in cells[3]
    assert "released-code: <code>4</code>" in cells[3]
    assert "### run" in page
    assert "### relax" in page


def test_a_plugin_that_is_declared_and_not_installed_is_named(tmp_path: Path) -> None:
    for folder, group in (("", "metrics"), ("plugins/more", "extractors")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "pyproject.toml").write_text(
            f'[project]\nname = "x"\n[project.entry-points."cbirbench.{group}"]\n'
            'no-such = "x:X"\nmap = "x:Y"\n'
        )

    problems = plugin_page.missing(tmp_path)

    assert len(problems) == 3  # map is a metric and no extractor
    assert "pyproject.toml: the metric 'no-such' is not installed" in problems[0]
    assert problems[1].startswith("plugins/more/pyproject.toml: the extractor 'map'")


def test_the_repositorys_own_are_those_of_its_projects() -> None:
    found = plugin_page.distributions(ROOT)

    assert found["cbirbench"] == ""
    assert found["cbirbench-hog"] == "plugins/hog"
