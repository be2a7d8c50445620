"""Pages of modules, rendered by mkdocstrings, and of single source files that other pages link to."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import markup

LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".sh": "sh", ".yml": "yaml", ".yaml": "yaml"}


def module_file(root: Path, module: str) -> Path | None:
    """The file with a module's source; None where there is no such module."""
    path = root.joinpath(*module.split("."))
    found = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return found[0] if found else None


def module_page(module: str) -> str:
    """What mkdocstrings makes the page of a module from."""
    return f"::: {module}\n"


def overview(root: Path, modules: Sequence[str]) -> str:
    """The page that says which module is for what, in the modules' own words."""
    rows = []
    for module in modules:
        file = module_file(root, module)
        summary = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "") if file else ""
        rows.append(
            (f"[`{module}`]({module}.md)", markup.text(summary.partition("\n\n")[0].replace("``", "`")))
        )
    listing = markup.table(("Module", "What is in it"), rows)
    return f"# Python\n\nGenerated from the modules' docstrings.\n\n{listing}"


def source_page(root: Path, path: str) -> str:
    """A page that shows a file of the repository as it is."""
    shown = re.sub(r"^(\s*)(-+8<-+)", r"\1;\2", (root / path).read_text("utf-8"), flags=re.MULTILINE)
    language = LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"# {PurePosixPath(path).name}\n\n{markup.code(path)}\n\n{markup.fence(shown, language)}"
