"""From the templates to the files of a new distribution.

A template is a whole plugin that works, under a name of its own. A new plugin is the same with that name, in
its three spellings, replaced by another. What else differs is a phrase of the templates.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from cbirbench import __version__
from cbirbench.errors import UsageError
from cbirbench.registry import Kind
from cbirbench.scaffold.names import PluginName

EXAMPLES: dict[Kind, str] = {
    "extractor": "grid-statistics",
    "augmentation": "random-window",
    "metric": "first-hit",
    "benchmark": "synthetic-spheres",
}
"""The name of each kind's template."""

FIRST_RUN: dict[Kind, str] = {
    "extractor": "cbirbench run phantom --extractors {name},hog,random --metrics map,knn-accuracy",
    "augmentation": "cbirbench views phantom --augmentation {name}",
    "metric": "cbirbench run phantom --extractors hog,random --metrics map,{name}",
    "benchmark": "cbirbench run {name} --extractors intensity-histogram,random --metrics map,knn-accuracy",
}
"""What shows a new plugin at work."""

SUFFIX = ".template"
"""Ends the templates' names, so that no tool takes them for files of this repository."""

ANY_NAME = "the-name-of-this-plugin"
ANY_AUTHORS = "The authors of this plugin"
ANY_BOUND = "cbirbench>=0.1,<0.2"
"""What stands in templates for a name where the kind is open, for authors, and for the cbirbench needed."""

LONGEST_AUTHOR = 200


def rendered(kind: Kind, name: PluginName, author: str = "") -> dict[str, str]:
    """The files of a new distribution.

    Args:
        kind: What the plugin is.
        name: Its name.
        author: Whom the licence, the package and the card name; empty leaves ``The authors of this plugin``.

    Returns:
        Texts by path, which is relative and has ``/`` between its parts.

    Raises:
        UsageError: The author's name cannot be written.
    """
    example, authors = PluginName(EXAMPLES[kind]), checked_author(author) or ANY_AUTHORS
    files = {}
    for path, template in templates(kind).items():
        wording = {
            example.dashed: name.dashed,
            example.underscored: name.underscored,
            example.class_name: name.class_name,
            ANY_NAME: name.dashed,
            ANY_AUTHORS: escaped(authors, path),
            ANY_BOUND: bound(__version__),
        }
        files[_reworded(path, wording)] = _reworded(template, wording)
    return files


def templates(kind: Kind) -> dict[str, str]:
    """The template of a kind as it is: texts by path."""
    folder = resources.files("cbirbench.scaffold") / "templates"
    return dict(sorted([*_files(folder / "any-kind"), *_files(folder / kind)]))


def class_names(kind: Kind) -> set[str]:
    """Names that the template's modules define, import or use, but for its own: a class would hide them."""
    own = PluginName(EXAMPLES[kind]).class_name
    found = set()
    for path, text in templates(kind).items():
        if path.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.alias):
                    found.add(node.asname or node.name)
                elif isinstance(node, ast.Name):
                    found.add(node.id)
                elif isinstance(node, ast.ClassDef):
                    found.add(node.name)
    return found - {own}


def checked_author(author: str) -> str:
    """A name on one line.

    Raises:
        UsageError: It holds control characters, or is too long.
    """
    name = " ".join(author.split())
    if not name.isprintable():
        raise UsageError(
            f"--author {name[:LONGEST_AUTHOR]!r} has characters that cannot be printed.", "Give a plain name."
        )
    if len(name) > LONGEST_AUTHOR:
        raise UsageError(
            f"--author has {len(name)} characters, more than {LONGEST_AUTHOR}.", "Name fewer people."
        )
    return name


def escaped(text: str, path: str) -> str:
    """A text as it stands in a file of that name, so that it means itself."""
    if path.endswith(".toml"):
        return json.dumps(text, ensure_ascii=False)[1:-1]  # JSON's escapes are TOML's as well
    if path.endswith(".md"):
        return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
    return text


def bound(version: str) -> str:
    """The requirement on a cbirbench whose interfaces are those of a version."""
    major, minor = map(int, version.split(".")[:2])
    lowest = f"{major}.{minor}" if re.fullmatch(r"[\d.]+", version) else f"{major}.{minor}.dev0"
    return f"cbirbench>={lowest},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def _reworded(text: str, wording: Mapping[str, str]) -> str:
    return re.sub("|".join(map(re.escape, wording)), lambda found: wording[found[0]], text)


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        path = f"{above}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{path}/")
        elif path.endswith(SUFFIX):
            yield path.removesuffix(SUFFIX), entry.read_text(encoding="utf-8")
