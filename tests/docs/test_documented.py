"""Whatever somebody may build on, set or look for is in the documentation."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import plugin_page
import pytest
import staging

import cbirbench.interfaces
import cbirbench.testing
from cbirbench import registry
from cbirbench.option_tables import option_rows
from cbirbench.plugin_facts import own_options
from cbirbench.results import FILES
from cbirbench.store import KINDS

ROOT = Path(__file__).parents[2]
WRITTEN = {page: (ROOT / page).read_text("utf-8") for page in staging.authored(ROOT)}
REFERENCED = [
    page.removeprefix(staging.PYTHON).removesuffix(".md")
    for page in staging.navigation(staging.settings()["nav"])
    if page.startswith(staging.PYTHON) and page != staging.OVERVIEW
]


def undescribed(module: ModuleType) -> list[str]:
    """Names of ``__all__`` without a docstring where they are defined: the reference leaves these out."""
    return [name for name in module.__all__ if not _described(module, name)]


def _described(module: ModuleType, name: str) -> bool:
    assert module.__file__ is not None
    body = ast.parse(Path(module.__file__).read_text("utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) is not None
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name in [ast.unparse(target) for target in targets]:
                return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            return _described(importlib.import_module(str(node.module)), name)
    return False


@pytest.mark.parametrize("module", [cbirbench.interfaces, cbirbench.testing])
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    assert module.__name__ in REFERENCED
    assert len(module.__all__) >= 4
    assert undescribed(module) == []


def test_a_public_name_without_a_docstring_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '__all__ = ["A", "B", "C"]\nclass A:\n    """It is."""\nclass B: ...\nC = 1\n"""It is too."""\n'
    (tmp_path / "made_up_names.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert undescribed(importlib.import_module("made_up_names")) == ["B"]


def ours() -> Iterator[registry.Plugin]:
    """The repository's own plugins."""
    own = plugin_page.distributions(ROOT)
    for kind in registry.GROUPS:
        yield from (plugin for plugin in registry.installed(kind) if plugin.distribution in own)


def sections(page: str) -> dict[str, str]:
    """A page's sections by their headings, all levels alike."""
    parts = re.split(r"^#+ (.+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_plugin_and_option_is_in_the_catalogue() -> None:
    catalogue = sections(plugin_page.page(ROOT))
    options = {plugin.name: registry.load(plugin).options_type for plugin in ours()} | own_options()
    assert {"hog", "random", "hu-clip", "map", "phantom", "relax"} <= options.keys()
    for name, options_type in options.items():
        (section,) = [text for title, text in catalogue.items() if title.split(" {")[0] == name]
        for row in option_rows(options_type):
            assert f">{row.name.replace('_', '&#95;')}</code>" in section, f"{name}.{row.name}"
            assert row.description, f"{name}.{row.name} says nothing of what it sets"


def test_every_plugins_readme_names_its_plugins_and_their_options() -> None:
    for name, folder in plugin_page.distributions(ROOT).items():
        if not folder:
            continue
        readme = WRITTEN[f"{folder}/README.md"]
        for plugin in ours():
            if plugin.distribution != name:
                continue
            assert f"`{plugin.name}`" in readme or f"`{plugin.name}." in readme
            inherited = {
                option
                for other in registry.load(plugin).options_type.__mro__[1:]
                for option in _fields(other)
            }
            for option in set(_fields(registry.load(plugin).options_type)) - inherited:
                assert re.search(rf"[`.]{option}`", readme), (
                    f"{folder}/README.md lacks {plugin.name}.{option}"
                )


def _fields(options_type: type) -> dict[str, object]:
    return dict(getattr(options_type, "model_fields", {}))


def test_every_entry_point_group_is_told_and_shown() -> None:
    pages = "\n".join(WRITTEN.values())
    for group in registry.GROUPS.values():
        assert f"`{group}`" in WRITTEN["docs/architecture.md"]
        assert f'entry-points."{group}"' in pages or f"`{group}`" in pages
    declared = {
        group
        for file in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"))
        for group in tomllib.loads(file.read_text("utf-8"))["project"].get("entry-points", {})
    }
    assert declared == set(registry.GROUPS.values())


def test_every_file_of_a_run_is_in_the_readme() -> None:
    (section,) = [
        text for title, text in sections(WRITTEN["README.md"]).items() if title == "What a run leaves"
    ]
    for name in FILES:
        assert re.search(rf"`{re.escape(name)}(/|`)", section), name


def test_every_kind_of_cache_entry_is_told() -> None:
    (section,) = [
        text for title, text in sections(WRITTEN["docs/reproducibility.md"]).items() if title == "The cache"
    ]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*KINDS, "workspaces"]


def rooms() -> list[list[str]]:
    """Modules and packages of each row of the table on the architecture."""
    (section,) = [
        text
        for title, text in sections(WRITTEN["docs/architecture.md"]).items()
        if title == "One line of imports"
    ]
    return [
        re.findall(r"`([\w/]+?)(?:\.py|/)`", row)
        for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    ]


def test_the_architecture_names_every_module_once() -> None:
    package = Path(cbirbench.interfaces.__file__).parent
    there = {file.stem for file in package.glob("*.py")} | {
        file.parent.name for file in package.glob("*/*.py")
    }
    assert sorted(name for row in rooms() for name in row) == sorted(there - {"__init__"})


def test_the_architectures_rows_are_in_the_order_of_imports() -> None:
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text("utf-8"))
    (order,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    ]
    uppermost = [
        min(order.index(module) for module in order if module.split(".")[0] in row) for row in rooms()
    ]
    assert uppermost == sorted(uppermost), [rooms()[uppermost.index(place)] for place in sorted(uppermost)]


def test_the_tutorials_table_is_the_readmes() -> None:
    tutorial, readme = (
        [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        for page in ("docs/tutorial.md", "README.md")
    )
    assert len(tutorial) > 10
    assert [line for line in tutorial if line not in readme] == []


def test_every_picture_is_another() -> None:
    pictures = [path for path in (ROOT / "docs/images").iterdir() if path.is_file()]
    assert len({path.read_bytes() for path in pictures}) == len(pictures) > 3
