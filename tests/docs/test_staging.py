from __future__ import annotations

from pathlib import Path

import pytest
import staging

ROOT = Path(__file__).parents[2]
NAMED = [
    "README.md",
    "docs/guide.md",
    "plugins/hog/README.md",
    "benchmarks/README.md",
    "plugins/catalogue.md",
    "reference/cli.md",
    "reference/python/index.md",
    "reference/python/cbirbench.interfaces.md",
    "reference/python/cbirbench.metrics.md",
]
GENERATED = {"plugins/catalogue.md": "# Catalogue\n", "reference/cli.md": "# Command line\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "README.md": "# Home\n",
        "LICENSE": "Apache\n",
        "pyproject.toml": "[project]\n",
        ".ci/run": "#!/bin/sh\n",
        "docs/guide.md": "# Guide\n",
        "docs/images/picture.png": "",
        "benchmarks/README.md": "# Benchmarks\n",
        "plugins/hog/README.md": "# hog\n",
        "plugins/hog/cbirbench_hog.py": "# --8<-- [start:class]\nclass Hog: ...\n# --8<-- [end:class]\n",
        "cbirbench/cli.py": "",
        "cbirbench/commands/run.py": "",
        "cbirbench/runner.py": '"""The run."""\n',
        "cbirbench/interfaces.py": '"""What a plugin is."""\n',
        "cbirbench/metrics/__init__.py": '"""Metrics."""\n',
        "cbirbench/metrics/knn_accuracy.py": "",
        "tests/test_it.py": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def staged(root: Path, text: str, page: str = "docs/guide.md") -> tuple[str, list[str]]:
    """The page as staged with that text, and the problems."""
    site = staging.gather(root, NAMED, GENERATED)
    assert not site.problems
    site.pages[page] = text
    (root / page).write_text(text)
    folder = root / "staged"
    staging.write(site, folder)
    return (folder / page).read_text(), site.problems


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("../README.md#try-it", "../README.md#try-it"),
        ("../benchmarks", "../benchmarks/README.md"),
        ("../plugins/hog/", "../plugins/hog/README.md"),
        ("../plugins", "../plugins/catalogue.md"),
        ("..", "../README.md"),
        ("../cbirbench/cli.py", "../reference/cli.md"),
        ("../cbirbench/commands/run.py", "../reference/cli.md"),
        (
            "../cbirbench/interfaces.py",
            "../reference/python/cbirbench.interfaces.md#cbirbench.interfaces",
        ),
        (
            "../cbirbench/interfaces.py#cbirbench.interfaces.Extractor",
            "../reference/python/cbirbench.interfaces.md#cbirbench.interfaces.Extractor",
        ),
        ("../cbirbench/metrics", "../reference/python/cbirbench.metrics.md"),
        (
            "../cbirbench/metrics/knn_accuracy.py",
            "../reference/python/cbirbench.metrics.md#cbirbench.metrics.knn_accuracy",
        ),
        ("../cbirbench/runner.py", "../source/cbirbench/runner.py.md"),
        ("../plugins/hog/cbirbench_hog.py", "../source/plugins/hog/cbirbench_hog.py.md"),
        ("../LICENSE", "../source/LICENSE.md"),
        ("../.ci/run", "../source/ci/run.md"),
        ("images/picture.png", "images/picture.png"),
        ("https://example.org/a.md", "https://example.org/a.md"),
        ("#here", "#here"),
        ("mailto:a@example.org", "mailto:a@example.org"),
    ],
)
def test_links_lead_to_where_the_site_has_what_they_name(root: Path, target: str, leads_to: str) -> None:
    text, problems = staged(root, f"See [`this` and\nthat]({target}), and:\n\n[ref]: {target}\n")

    assert not problems
    assert text == f"See [`this` and\nthat]({leads_to}), and:\n\n[ref]: {leads_to}\n"


def test_pages_of_files_show_them_and_pictures_are_copied(root: Path) -> None:
    staged(root, "![a](images/picture.png) [hog](../plugins/hog/cbirbench_hog.py)\n")

    shown = (root / "staged/source/plugins/hog/cbirbench_hog.py.md").read_text()
    assert "class Hog: ..." in shown
    assert (root / "staged/docs/images/picture.png").is_file()


@pytest.mark.parametrize("target", ["nowhere.md", "../../outside.md", "../tests", "../cbirbench/nothing.py"])
def test_a_link_to_nothing_is_named_with_its_line(root: Path, target: str) -> None:
    _, problems = staged(root, f"# Guide\n\n[it]({target})\n")

    assert problems == [f"docs/guide.md:3: the link {target} leads to nothing that the site can show"]


def test_code_stays_as_it_is(root: Path) -> None:
    text = "`[a](nowhere.md)` and\n\n```sh\n[a](nowhere.md)\n```\n\n````md\n```\n[b](nowhere.md)\n```\n````\n"

    assert staged(root, text) == (text, [])


def test_formulas_become_mathml_and_what_needs_a_script_is_refused(root: Path) -> None:
    text, problems = staged(root, "$`x^2`$\n\n```math\nx_1\n```\n\n```mermaid\na-->b\n```\n\n$`\\nosuch`$\n")

    assert "<msup><mi>x</mi><mn>2</mn></msup>" in text
    assert '<div class="formula"><math' in text
    assert [problem.partition(": ")[0] for problem in problems] == ["docs/guide.md:7", "docs/guide.md:11"]


def test_includes_need_the_file_the_section_and_a_link_before(root: Path) -> None:
    link = "[hog](../plugins/hog/cbirbench_hog.py)\n"
    good = '--8<-- "plugins/hog/cbirbench_hog.py:class"\n'

    assert staged(root, f"{link}\n```python\n{good}```\n")[1] == []
    assert "a link to plugins/hog/cbirbench_hog.py must precede" in staged(root, f"{good}\n{link}")[1][0]
    assert "marks no section other" in staged(root, link + good.replace(":class", ":other"))[1][0]
    assert "is not in the repository" in staged(root, '--8<-- "no/such.py"\n')[1][0]
    reformatted = good.replace("--8<-- ", "--8 < --")  # by what takes it for Python
    assert "includes nothing" in staged(root, f"{link}\n```python\n{reformatted}```\n")[1][0]


def test_the_navigation_and_the_pages_must_match(root: Path) -> None:
    (root / "docs/extra.md").write_text("# Extra\n")
    named = [*NAMED, "docs/missing.md", "reference/python/cbirbench.nothing.md"]

    problems = staging.gather(root, named, GENERATED).problems

    assert [problem for problem in problems if "docs/missing.md" in problem and "not there" in problem]
    assert [problem for problem in problems if "no module cbirbench.nothing" in problem]
    assert [problem for problem in problems if problem.startswith("docs/extra.md: no entry")]
    assert len(problems) == 3


def test_every_page_that_was_written_is_in_the_navigation() -> None:
    named = list(staging.navigation(staging.settings()["nav"]))

    assert set(staging.authored(ROOT)) <= set(named)
    assert len(named) == len(set(named))
