from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from html import unescape
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cbirbench import __version__, registry
from cbirbench.errors import UsageError
from cbirbench.registry import Kind
from cbirbench.scaffold.names import LONGEST, PluginName
from cbirbench.scaffold.rendering import (
    ANY_AUTHORS,
    ANY_BOUND,
    ANY_NAME,
    EXAMPLES,
    FIRST_RUN,
    bound,
    checked_author,
    class_names,
    rendered,
    templates,
)

NAME = PluginName("my-ct-thing")
LINES: dict[Kind, int] = {"extractor": 15, "augmentation": 10, "metric": 10}
every_kind = pytest.mark.parametrize("kind", list(registry.GROUPS))


def code_lines(source: str) -> int:
    """Lines with code: neither blank, nor a comment, nor a docstring."""
    names = ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER")
    beside = {getattr(tokenize, name) for name in names}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in beside:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            told = node.body[0]
            assert told.end_lineno is not None
            lines -= set(range(told.lineno, told.end_lineno + 1))
    return len(lines)


def test_lines_are_counted_rightly() -> None:
    source = (
        '"""Doc."""\n\nimport a  # why\n# no\nclass B:\n    """Doc\n    s."""\n\n    c = (\n    1\n    )\n'
    )
    assert code_lines(source) == 5


@pytest.mark.parametrize("kind", list(LINES))
def test_an_example_is_short(kind: Kind) -> None:
    assert code_lines(rendered(kind, NAME)[f"{NAME.module}.py"]) <= LINES[kind]


@every_kind
def test_a_distribution_is_whole(kind: Kind) -> None:
    assert set(rendered(kind, NAME)) == {
        ".github/workflows/test.yml",
        ".gitignore",
        "CARD.md",
        "LICENSE",
        "README.md",
        "cbirbench_my_ct_thing.py",
        "pyproject.toml",
        "tests/test_my_ct_thing.py",
    }


@every_kind
def test_a_template_is_itself_a_plugin(kind: Kind) -> None:
    own = rendered(kind, PluginName(EXAMPLES[kind]))
    told = {path: text.replace(ANY_NAME, EXAMPLES[kind]) for path, text in templates(kind).items()}
    assert own == {path: text.replace(ANY_BOUND, bound(__version__)) for path, text in told.items()}


@every_kind
def test_nothing_of_the_examples_name_is_left(kind: Kind) -> None:
    example_name = PluginName(EXAMPLES[kind])
    left = (example_name.dashed, example_name.underscored, example_name.class_name, ANY_NAME)
    for path, text in rendered(kind, NAME).items():
        assert not [spelling for spelling in left if spelling in path + text], path


@every_kind
def test_nothing_is_left_to_be_written(kind: Kind) -> None:
    for path, text in rendered(kind, NAME).items():
        assert not re.search(r"NotImplemented|TODO|FIXME|\bpass\b|XXX|\{\{ ?\w+ ?\}\}", text), path


@every_kind
def test_the_package_is_described(kind: Kind) -> None:
    project = tomllib.loads(rendered(kind, NAME)["pyproject.toml"])["project"]
    assert project["name"] == "cbirbench-my-ct-thing"
    assert project["entry-points"] == {
        registry.GROUPS[kind]: {"my-ct-thing": "cbirbench_my_ct_thing:MyCtThing"}
    }
    assert bound(__version__) in project["dependencies"]
    assert project["optional-dependencies"] == {"test": ["pytest>=8"]}
    assert project["license"] == "MIT"
    assert project["authors"] == [{"name": ANY_AUTHORS}]


@every_kind
def test_the_readme_says_what_to_type(kind: Kind) -> None:
    readme = rendered(kind, NAME)["README.md"]
    (commands,) = re.findall(r"```sh\n(pip install -e.*?)```", readme, re.DOTALL)
    assert commands.splitlines() == [
        'pip install -e ".[test]"',
        "python -m pytest",
        "cbirbench plugins check my-ct-thing",
        FIRST_RUN[kind].format(name="my-ct-thing"),
    ]
    assert "not on the Python Package Index yet" in readme
    assert "Choose your own" in readme


@every_kind
def test_code_on_the_readme_compiles(kind: Kind) -> None:
    snippets = re.findall(r"```python\n(.*?)```", rendered(kind, NAME)["README.md"], re.DOTALL)
    assert snippets
    for snippet in snippets:
        # A line of a class stands alone.
        compile(f"if True:\n{snippet}" if snippet.startswith(" ") else snippet, "README.md", "exec")


def test_a_table_of_options_has_every_option() -> None:
    for kind in ("extractor", "benchmark"):
        files = rendered(kind, NAME)
        declared = re.findall(r"^    (\w+): \w+ = option\((\w+)", files[f"{NAME.module}.py"], re.MULTILINE)
        assert len(declared) == 1
        told = re.findall(r"^\| `my-ct-thing\.(\w+)` \| (\w+) \|", files["README.md"], re.MULTILINE)
        assert told == declared


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (
            "extractor",
            ["none: this example has no weights", "licence", "Training data", "HU window"],
        ),
        ("augmentation", ["Randomness", "Weights and data"]),
        ("metric", ["Citation", "Range", "Undefined", "Formula"]),
        ("benchmark", ["Data's origin | **synthetic**", "Data's licence", "Personal data"]),
    ],
)
def test_the_card_says_where_it_comes_from(kind: Kind, rows: list[str]) -> None:
    card = rendered(kind, NAME)["CARD.md"]
    for row in [*rows, "**Intended use.**", "**Known limits.**"]:
        assert row in card


def test_tests_elsewhere_say_what_they_need() -> None:
    yaml = pytest.importorskip("yaml")
    text = rendered("metric", NAME)[".github/workflows/test.yml"]
    assert "cbirbench is not on the Python Package Index yet" in text
    job = yaml.safe_load(text)["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-3:] == [
        'pip install -e ".[test]"',
        "python -m pytest",
        "cbirbench plugins check my-ct-thing",
    ]


def test_pythons_linter_has_nothing_to_say(tmp_path: Path) -> None:
    """By its default rules, and its formatter's, whatever the length of the name."""
    for kind, text in product(registry.GROUPS, ["a", "ct-" * 10 + "ct", "a" * LONGEST]):
        folder = tmp_path / kind / text
        for path, content in rendered(kind, PluginName(text)).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8")
        for arguments in (["check"], ["format", "--check", "--diff"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--isolated"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr


@every_kind
def test_what_a_class_would_hide_is_known(kind: Kind) -> None:
    names = class_names(kind)
    assert {"Plugin", f"{kind.capitalize()}Conformance"} <= names
    assert PluginName(EXAMPLES[kind]).class_name not in names


# authors -------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=50).filter(str.strip))
@example('A "quoted" \\ name')
@example("'''")
@example("</td> | <script>alert(1)</script> | [x](y) *a* _b_ `c` &amp;")
@example("two\nlines\tand a tab")
@example("first-hit the-name-of-this-plugin FirstHit cbirbench>=0.1,<0.2")
def test_an_author_means_himself_everywhere(author: str) -> None:
    files = rendered("metric", NAME, author)
    whole = " ".join(author.split())
    assert tomllib.loads(files["pyproject.toml"])["project"]["authors"] == [{"name": whole}]
    assert f"Copyright (c) {whole}\n" in files["LICENSE"]
    page = MarkdownIt().enable("table").render(files["CARD.md"])
    cells = re.findall(r"<td>Authors</td>\n<td>(.*?)</td>", page)
    assert [unescape(cell) for cell in cells] == [whole]


@pytest.mark.parametrize("author", ["a\x00b", "a\x1b[31mb", "a\u202eb", "\ud800", "x" * 201])
def test_what_is_no_author(author: str) -> None:
    with pytest.raises(UsageError, match="--author"):
        checked_author(author)


@pytest.mark.parametrize("author", ["", " \n "])
def test_without_an_author_nobody_is_named(author: str) -> None:
    assert f"Copyright (c) {ANY_AUTHORS}\n" in rendered("metric", NAME, author)["LICENSE"]


@pytest.mark.parametrize(
    ("version", "requirement"),
    [
        ("0.1.0", "cbirbench>=0.1,<0.2"),
        ("0.9.3", "cbirbench>=0.9,<0.10"),
        ("1.2.0", "cbirbench>=1.2,<2"),
        ("0.3.0.dev2", "cbirbench>=0.3.dev0,<0.4"),
        ("2.0.0rc1", "cbirbench>=2.0.dev0,<3"),
    ],
)
def test_the_bound_on_cbirbench(version: str, requirement: str) -> None:
    assert bound(version) == requirement


@every_kind
def test_templates_have_what_is_replaced_everywhere(kind: Kind) -> None:
    files = templates(kind)
    assert ANY_BOUND in files["pyproject.toml"]
    assert ANY_NAME in files[".github/workflows/test.yml"]
    named = [path for path, text in files.items() if ANY_AUTHORS in text]
    assert named == ["CARD.md", "LICENSE", "pyproject.toml"]
