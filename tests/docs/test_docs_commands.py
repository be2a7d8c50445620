"""Every command on a page is one that the program takes: parsed by it, its names and options looked up."""

from __future__ import annotations

import ast
import importlib
import io
import re
import shlex
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import staging
import typer
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from cbirbench import registry
from cbirbench.cli import app
from cbirbench.downloads.archives import archive_called
from cbirbench.errors import CbirbenchError
from cbirbench.planning import leftovers
from cbirbench.plugin_facts import called
from cbirbench.settings import Assignment, Settings, parse_assignments

ROOT = Path(__file__).parents[2]
PAGES = [page for page in staging.authored(ROOT) if page != "CHANGELOG.md"]
SHELL = {"sh", "bash", "shell", "console"}
PLACEHOLDER = re.compile(r"\.\.\.|[A-Z][A-Z0-9_]*(?:\.\.\.)?")
STAND_INS = ("1", "64", "0.5", "paper", "cpu", "extractor")
"""What is tried in a placeholder's stead where an option takes no text."""

UsageError = typer.BadParameter.__mro__[1]
"""What the command line's parser raises; newer typer has a click of its own."""


@dataclass(frozen=True)
class Shown:
    """A command on a page.

    Attributes:
        page: The page's path.
        line: Where it, or the block that holds it, begins.
        words: Its words, without the shell's.
        mentioned: Whether it stands within a line, where parts of it may be left out.
        own_names: Names of plugins that the page itself makes.
    """

    page: str
    line: int
    words: tuple[str, ...]
    mentioned: bool = False
    own_names: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def commands_of(page: str, text: str, program: str = "cbirbench") -> list[Shown]:
    """The commands of a program on a page, from its blocks of shell and from code within its lines."""
    found: list[tuple[int, tuple[str, ...], bool]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    toml = ""
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block" or (token.type == "fence" and (token.info.strip() or "sh") in SHELL):
            found += [(line, words, False) for words in shell_commands(token.content)]
        elif token.type == "fence" and token.info.strip() == "toml":
            toml += token.content + "\n"
        for child in token.children or []:
            if child.type == "code_inline" and child.content.startswith(f"{program} "):
                found += [(line, words, True) for words in shell_commands(child.content)]
    mine = [(line, words, mentioned) for line, words, mentioned in found if words[0] == program]
    made = {words[3] for _, words, _ in mine if words[1:3] == ("plugins", "new") and len(words) > 3}
    made |= {name for group in registry.GROUPS.values() for name in entry_points(toml, group)}
    own_names = frozenset(name for name in made if not PLACEHOLDER.fullmatch(name))
    return [Shown(page, line, words, mentioned, own_names) for line, words, mentioned in mine]


def entry_points(toml: str, group: str) -> set[str]:
    """Names that a page's TOML declares in a group."""
    try:
        groups = tomllib.loads(toml).get("project", {}).get("entry-points", {})
    except tomllib.TOMLDecodeError:
        return set()
    return set(groups.get(group, {}))


def shell_commands(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each simple command; settings of the environment before it are dropped."""
    optional = re.compile(r"(?<![\w'\"])\[[A-Z]+=\]")  # [NAME=]PATH
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(optional.sub("", line), posix=True, punctuation_chars="();<>|&")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            if set(word) <= set("();<>|&"):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield tuple(words)
                words = []
            else:
                words.append(word)


def problem_of(shown: Shown) -> str:
    """What the program has against a command; empty where it would take it."""
    try:
        command, values = parsed(shown)
        if command is not None:
            check_names(command, values, shown)
    except UsageError as error:
        return error.format_message()
    except CbirbenchError as error:
        return str(error)
    return ""


def parsed(shown: Shown) -> tuple[str | None, dict[str, Any]]:
    """A command's name and its values, after the program's own parser; no name where it only prints help.

    Raises:
        UsageError: The program does not take it.
    """
    command: Any = typer.main.get_command(app)
    context, words, path = None, [_without_brackets(word) for word in shown.words[1:]], []
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        name = words.pop(0)
        if name not in command.commands:
            raise UsageError(f"There is no command {name!r}.")
        context = command.context_class(command, info_name=name, parent=context)
        command, path = command.commands[name], [*path, name]
    if hasattr(command, "commands") and not words:
        return None, {}  # named as a group
    words = [word for before, word in pairwise(["", *words]) if word != "..." or before.startswith("-")]
    guesses: dict[int, Iterator[str]] = {}
    while True:
        try:
            with redirect_stdout(io.StringIO()):
                values = command.make_context(path[-1] if path else "cbirbench", list(words), parent=context)
            return " ".join(path), values.params
        except typer.Exit:  # --help, --version
            return None, {}
        except UsageError as error:
            parameter = getattr(error, "param", None)
            if shown.mentioned and type(error).__name__ == "MissingParameter" and parameter is not None:
                words += (
                    [*parameter.opts[-1:], "PLACE"] if parameter.param_type_name == "option" else ["PLACE"]
                )
                continue
            at = _placeholder(words, parameter, guesses)
            guess = next(guesses.setdefault(at, iter(STAND_INS)), None) if at else None
            if guess is None:
                raise
            words[at] = guess


def _placeholder(words: Sequence[str], parameter: Any, guesses: Collection[int]) -> int:
    """Where the placeholder stands that was given for an option; 0 where none was."""
    options = getattr(parameter, "opts", ())
    for at, (before, word) in enumerate(pairwise(words), start=1):
        if before in options and (at in guesses or PLACEHOLDER.fullmatch(word)):
            return at
    return 0


def _without_brackets(word: str) -> str:
    """Brackets say what may be left out: ``[--run N]``."""
    return (
        word.removeprefix("[").removesuffix("]")
        if word.startswith("[") or re.search(r"\w\]$", word)
        else word
    )


def check_names(command: str, values: Mapping[str, Any], shown: Shown) -> None:
    """Look up whatever a command names.

    Raises:
        CbirbenchError: It is not there, or an option does not take its value.
    """

    def there(kind: registry.Kind, text: object) -> None:
        for entry in str(text or "").split(","):
            name = entry.rpartition("=")[2]  # vit=imagenet is a variant of imagenet
            if not (PLACEHOLDER.fullmatch(name) or name in shown.own_names or not name):
                registry.load(registry.find(kind, name))

    if command in ("run", "views"):
        there("benchmark", values["benchmark"])
        there("extractor", values.get("extractors"))
        there("augmentation", values.get("augmentation"))
        there("metric", re.sub(r"@\d+", "", values.get("metrics") or ""))
    elif command in ("explain", "query", "cross-exam"):
        there("extractor", values["extractor"])
    elif command == "data fetch" and not PLACEHOLDER.fullmatch(values["task"]):
        archive_called(values["task"])
    elif command in ("plugins show", "plugins check"):
        name = values["name"]
        if name and name not in shown.own_names and not PLACEHOLDER.fullmatch(name):
            called(name)
    # What is set for a variant must be an option of its extractor.
    variants = re.findall(r"([^,=]+)=([^,]+)", str(values.get("extractors") or ""))
    texts = [text for text in values.get("assignments") or () if text != "NAME.OPTION=VALUE"]
    for variant, extractor in variants:
        texts = [re.sub(rf"^{re.escape(variant)}\.", f"{extractor}.", text) for text in texts]
    given = [with_a_value(one) for one in parse_assignments(texts) if one.name not in shown.own_names]
    leftovers(Settings(str(getattr(values.get("profile"), "value", "paper")), {}, given), given)  # type: ignore[arg-type]


def with_a_value(given: Assignment) -> Assignment:
    """An assignment whose placeholder, if its value is one, is replaced by the option's default."""
    if not PLACEHOLDER.fullmatch(given.value):
        return given
    defaults = {row.name: row.default for facts in called(given.name) for row in facts.options}
    return Assignment(given.name, given.option, defaults.get(given.option, given.value))


def problems_on(page: str, text: str) -> list[str]:
    """What is wrong with a page's commands, a line each."""
    return [f"{shown}\n    {said}" for shown in commands_of(page, text) if (said := problem_of(shown))]


@pytest.mark.parametrize("page", PAGES)
def test_the_program_takes_every_command_of_a_page(page: str) -> None:
    assert problems_on(page, (ROOT / page).read_text("utf-8")) == []


def test_commands_are_found_on_the_pages() -> None:
    shown = [one for page in PAGES for one in commands_of(page, (ROOT / page).read_text("utf-8"))]
    assert len([one for one in shown if not one.mentioned]) > 50
    assert len([one for one in shown if one.mentioned]) > 30
    commands: Any = typer.main.get_command(app)
    assert {one.words[1] for one in shown if not one.words[1].startswith("-")} == set(commands.commands)


MADE_UP = """
```sh
{command}
```
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cbirbench rum phantom", "no command 'rum'"),
        ("cbirbench run phantom --extractor hog", "--extractor"),
        ("cbirbench run phantom --runs few", "few"),
        ("cbirbench run phantom --profile papers", "papers"),
        ("cbirbench run", "'benchmark'"),
        ("cbirbench run fantom", "'fantom'"),
        ("cbirbench run phantom --extractors hog,hogg", "'hogg'"),
        ("cbirbench run phantom --metrics mapp@5", "'mapp'"),
        ("cbirbench run phantom --set hog.cel=9", "'cel'"),
        ("cbirbench run phantom --set hog.cell=nine", "'nine'"),
        ("cbirbench run phantom --set hog.cel=...", "'cel'"),
        ("cbirbench run phantom --set hogg.cell=9", "'hogg'"),
        ("cbirbench run phantom --set simsiam.epoch=9", "'epoch'"),
        ("cbirbench run phantom --set relax.masks", "NAME.OPTION=VALUE"),
        ("cbirbench views phantom --augmentation hu-clop", "'hu-clop'"),
        ("cbirbench data fetch liber", "'liber'"),
        ("cbirbench plugins show hogg", "'hogg'"),
        ("cbirbench plugins lists", "'lists'"),
        ("cd x && cbirbench cache --cleer", "--cleer"),
        ("A=1 cbirbench run phantom \\\n  --extractors hogg", "'hogg'"),
    ],
)
def test_a_mistake_on_a_page_would_be_found(command: str, says: str) -> None:
    (problem,) = problems_on("made-up.md", MADE_UP.format(command=command))
    assert says.lower() in re.sub(r"\x1b\[[0-9;]*m", "", problem).lower()


@pytest.mark.parametrize(
    "command", ["cbirbench run ... --eval-evry 5", "cbirbench lists", "cbirbench explain --set relax.maks=1"]
)
def test_a_mistake_within_a_line_would_be_found(command: str) -> None:
    assert len(problems_on("made-up.md", f"As in `{command}`.")) == 1


@pytest.mark.parametrize(
    "text",
    [
        MADE_UP.format(command="cbirbench explain RUN_DIR --query ID [--extractor NAME] [--run N] [--top 5]"),
        MADE_UP.format(command="cbirbench run phantom --set NAME.OPTION=VALUE --set imagenet.weights=FILE"),
        MADE_UP.format(command="cbirbench run folder --set folder.patient_pattern='^([^_]+)'  # by its name"),
        MADE_UP.format(command="cbirbench paper RUN_DIR... && python x.py --no-such-option"),
        "`cbirbench run ... --eval-every 5`, `cbirbench plugins`, `cbirbench explain`, `cbirbench --help`.",
        "`cbirbench run decathlon --queries [NAME=]PATH`",
        '```toml\n[project.entry-points."cbirbench.extractors"]\nmine = "m:M"\n```\n'
        + MADE_UP.format(command="cbirbench run phantom --extractors mine,hog --set mine.size=3"),
        MADE_UP.format(command="cbirbench plugins new rings --kind extractor\ncbirbench plugins check rings"),
    ],
)
def test_what_readers_understand_is_no_mistake(text: str) -> None:
    assert commands_of("made-up.md", text)
    assert problems_on("made-up.md", text) == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_command_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    programs = commands_of(page, text, "python")
    for shown in programs:
        script = shown.words[1]
        if not script.endswith(".py") or page == "docs/write_a_plugin.md":
            continue
        source = (ROOT / script).read_text("utf-8")
        for word in shown.words[2:]:
            option = word.strip("[]")
            assert not option.startswith("--") or f'"{option}"' in source, str(shown)
    for requirements in re.findall(r"(?:^|\s)-r (\S+?\.txt)\b", text):
        assert (ROOT / requirements).is_file(), f"{page} names {requirements}"


def python_blocks(text: str) -> list[str]:
    return [
        token.content
        for token in MarkdownIt("commonmark").parse(text)
        if token.type == "fence" and token.info.strip() == "python" and "--8<--" not in token.content
    ]


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_compiles_and_imports_what_is_there(page: str) -> None:
    for block in python_blocks((ROOT / page).read_text("utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "cbirbench":
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# Run -------------------------------------------------------------------------------------------------------


def invoked(words: Sequence[str]) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "plugins list",
        "plugins list --json",
        "plugins show ours",
        "plugins show map",
        "plugins show run",
        "cache",
        "data list",
        "data phantom --out clinic --volumes 1 --size 64 --slices 40",
    ],
)
def test_cheap_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoked(command.split())


def test_every_command_has_help() -> None:
    waiting: list[list[str]] = [[]]
    for path in waiting:
        assert "Usage: " in invoked([*path, "--help"])
        command: Any = typer.main.get_command(app)
        for name in path:
            command = command.commands[name]
        waiting += [[*path, name] for name in getattr(command, "commands", {})]
    assert len(waiting) > 15


TINY = """phantom.size=64 phantom.gallery_volumes=1 phantom.query_volumes=1 relax.masks=20 simsiam.epochs=1
simsiam.batch_size=10
simsiam.image_size=32 imagenet.image_size=32 hog.image_size=32 gabor.image_size=32"""

SMALL = {
    "run": "--device cpu --explain-queries none " + " ".join(f"--set {text}" for text in TINY.split()),
    "views": "--size 32 " + " ".join(f"--set {text}" for text in TINY.split()[:3]),
    "data phantom": "--size 64 --volumes 1 --slices 40",
    "explain": "",  # a query that there is
}
"""What makes the tutorial's commands small; an option that is given twice has its last value."""


def test_the_tutorial_runs_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and every block of Python, in the page's order, each with what those before it left."""
    monkeypatch.chdir(tmp_path)
    page = "docs/tutorial.md"
    text = (ROOT / page).read_text("utf-8")
    said = {}
    for words in [one.words[1:] for one in commands_of(page, text) if not one.mentioned]:
        command = next((key for key in SMALL if " ".join(words).startswith(key)), "")
        more = shlex.split(SMALL.get(command, ""))
        if command == "explain":
            slices = pd.read_parquet(f"{words[1]}/slices.parquet")
            more = ["--query", slices.query("split == 'query' and label == 1")["slice_id"].iloc[0]]
        said[" ".join(words)] = invoked([*words, *more])
    table = next(output for command, output in said.items() if "z-position" in command)
    for name in ("simsiam-hu-clip", "imagenet", "hog", "gabor", "z-position", "intensity", "random"):
        assert name in table
    for left in (
        "scans",
        "comparison/report.md",
        "curves/figures/curves.png",
        "views.png",
        "coarser/report.md",
    ):
        assert Path(left).exists()
    assert len(said) >= 9
    (block,) = [block for block in python_blocks(text) if "scores.parquet" in block]
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, page, "exec"), {})
    assert "z-position" in printed.getvalue() and "map@5" in printed.getvalue()


@pytest.mark.usefixtures("fake_plugins")
def test_a_result_that_was_made_again_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = "docs/reproducibility.md"
    (block,) = [one for one in python_blocks((ROOT / page).read_text("utf-8")) if "again" in one]

    def compared() -> str:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, page, "exec"), {})
        return printed.getvalue()

    command = shlex.split("run blobs --extractors brightness --metrics purity@1 --set blobs.scans=4 --out")
    invoked([*command, "recorded"])
    monkeypatch.setenv("CBIRBENCH_CACHE", "empty-cache")
    invoked([*command, "again"])
    assert "same data: True" in compared() and "Empty DataFrame" in compared()
    scores = __import__("pandas").read_parquet("again/scores.parquet")
    scores.loc[0, "value"] += 0.5
    scores.to_parquet("again/scores.parquet")
    assert "Empty DataFrame" not in compared()
    invoked([*command[:-1], "--set", "blobs.scans=3", "--out", "less"])
    Path("again").rename("other")
    Path("less").rename("again")
    assert "same data: False" in compared() and "other queries" in compared()
