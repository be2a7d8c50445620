"""Stages the site's sources: the repository's pages under its paths, so that links work in both.

A page's link to a file of the repository works on a code host as it stands. In the site it leads to that
file's page, else to the reference of that module, else to a page that shows the file. A link that leads to
nothing is a problem, named with page and line.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import formulas
import reference_pages

HERE = Path(__file__).parent
PAGES = ("README.md", "CHANGELOG.md", "docs/*.md", "benchmarks/*.md", "plugins/*/*.md")
CLI, CATALOGUE, PYTHON, OVERVIEW = (
    "reference/cli.md",
    "plugins/catalogue.md",
    "reference/python/",
    "reference/python/index.md",
)
ASSETS = {".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp"}

_MARKUP = re.compile(
    r"""^(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,})[ ]*(?P<language>[^\s`]*)[^\n]*\n(?P<content>.*?)
          ^[ ]*(?P=fence)[`~]*[ ]*$                                         # a block of code, taken as it is
    | \$`(?P<formula>[^`]+)`\$
    | (?P<ticks>`+)(?:.(?!\n\n))+?(?<!`)(?P=ticks)(?!`)                   # code in a line, likewise
    | (?P<before>\]\(\s*<?|^[ ]{0,3}\[[^\]\n]+\]:\s+<?)(?P<target>[^)\s>]+)  # a link, a reference""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_INCLUDE = re.compile(r"""^[ ]*-+8<-+[ ]+(?P<quote>["'])(?P<path>[^"']+?)(?P=quote)[ ]*$""", re.MULTILINE)
_MEANT_AS_INCLUDE = re.compile(r"\s*-+\s*8\s*<\s*-")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#")


@dataclass
class Site:
    """What is staged.

    Attributes:
        root: The repository.
        navigation: The pages that the navigation names, in its order.
        pages: Every page's Markdown by its path, links not yet rewritten.
        assets: Files of the repository that pages show.
        problems: What is wrong, a line each.
    """

    root: Path
    navigation: Sequence[str]
    pages: dict[str, str] = field(default_factory=dict)
    assets: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def modules(self) -> list[str]:
        """Modules that have a reference page."""
        return [
            PurePosixPath(page).name.removesuffix(".md")
            for page in self.navigation
            if page.startswith(PYTHON) and page != OVERVIEW
        ]


def settings() -> dict[str, Any]:
    """The site's settings, as they stand in zensical.toml."""
    project: dict[str, Any] = tomllib.loads((HERE / "zensical.toml").read_text("utf-8"))["project"]
    return project


def navigation(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The pages that a navigation names."""
    for entry in entries:
        for content in entry.values():
            if isinstance(content, str):
                yield content
            else:
                yield from navigation(content)


def authored(root: Path) -> list[str]:
    """The pages that people write."""
    return sorted(file.relative_to(root).as_posix() for pattern in PAGES for file in root.glob(pattern))


def gather(root: Path, named: Sequence[str], generated: Mapping[str, str]) -> Site:
    """Collect the pages and check them against the navigation.

    Args:
        root: The repository.
        named: The pages that the navigation names.
        generated: Pages made from the code, by path.
    """
    site = Site(root, named)
    site.pages = {page: (root / page).read_text("utf-8") for page in authored(root)} | dict(generated)
    for module in site.modules:
        if reference_pages.module_file(root, module) is None:
            site.problems.append(
                f"docs/site/zensical.toml: there is no module {module} for a page in the navigation"
            )
        site.pages[f"{PYTHON}{module}.md"] = reference_pages.module_page(module)
    site.pages[OVERVIEW] = reference_pages.overview(root, site.modules)
    site.problems += [
        f"docs/site/zensical.toml: the navigation names {page}, which is not there: write it, or take it out"
        for page in named
        if page not in site.pages
    ]
    site.problems += [
        f"{page}: no entry of the navigation leads there: add it to docs/site/zensical.toml"
        for page in site.pages
        if page not in named
    ]
    return site


def write(site: Site, folder: Path) -> None:
    """Write all pages, with links that work in the site, their pictures, and the site's own files."""
    for page in authored(site.root):
        check_includes(site, page)
    waiting = list(site.pages)
    for page in waiting:  # grows: a link to a source file adds that file's page
        before = len(site.pages)
        _write_text(folder / page, rewritten(site, page))
        waiting += list(site.pages)[before:]
    for asset in sorted(site.assets):
        target = folder / asset
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(site.root / asset, target)
    for name in ("extra.css", "iframe-worker.js"):
        _write_text(folder / "assets" / name, (HERE / name).read_text("utf-8"))


def rewritten(site: Site, page: str) -> str:
    """A page as Markdown for the site: links lead to where it has what they name; formulas are MathML."""
    text = site.pages[page]

    def problem(match: re.Match[str], words: str) -> str:
        site.problems.append(f"{page}:{text.count(chr(10), 0, match.start()) + 1}: {words}")
        return match[0]

    def replace(match: re.Match[str]) -> str:
        if match["fence"] or match["formula"]:
            try:
                return _drawn(match)
            except ValueError as error:
                return problem(match, str(error))
        target = match["target"]
        if target is None or _ELSEWHERE.match(target):
            return match[0]
        path, mark, anchor = target.partition("#")
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path)))
        place = _place(site, goal)
        if place is None:
            return problem(match, f"the link {target} leads to nothing that the site can show")
        if place.startswith(PYTHON) and not anchor and goal.endswith(".py"):
            mark, anchor = "#", _module(goal)
        return (
            match["before"] + quote(posixpath.relpath(place, posixpath.dirname(page) or ".")) + mark + anchor
        )

    return _MARKUP.sub(replace, text)


def _drawn(match: re.Match[str]) -> str:
    """A formula as MathML; any other code as it stands.

    Raises:
        ValueError: It cannot be drawn here.
    """
    if match["formula"]:
        return formulas.inline(match["formula"])
    if match["language"] == "mermaid":
        raise ValueError("Mermaid would be loaded from elsewhere: draw an SVG file and show that")
    if match["language"] == "math":
        return match["indent"] + formulas.block(match["content"])
    return match[0]


def _place(site: Site, goal: str) -> str | None:
    """Where the site shows a path of the repository; None where it cannot."""
    if goal in site.pages:
        return goal
    if goal.startswith("../") or not (site.root / goal).exists():
        return None
    folder = {"plugins": CATALOGUE, "reference": OVERVIEW}.get(
        goal, f"{'' if goal == '.' else f'{goal}/'}README.md"
    )
    if folder in site.pages and (site.root / goal).is_dir():
        return folder
    if goal == "cbirbench/cli.py" or goal.startswith("cbirbench/commands"):
        return CLI
    if goal.startswith("cbirbench"):
        module = _module(goal)
        while module:
            if f"{PYTHON}{module}.md" in site.pages:
                return f"{PYTHON}{module}.md"
            module = module.rpartition(".")[0]
    return _file(site, goal)


def _file(site: Site, goal: str) -> str | None:
    """A picture as it is, any other file as a page that shows it."""
    if not (site.root / goal).is_file():
        return None
    if PurePosixPath(goal).suffix.lower() in ASSETS:
        site.assets.add(goal)
        return goal
    page = "source/" + "/".join(part.lstrip(".") for part in goal.split("/")) + ".md"
    if page not in site.pages:
        try:
            site.pages[page] = reference_pages.source_page(site.root, goal)
        except UnicodeDecodeError:
            return None
    return page


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def check_includes(site: Site, page: str) -> None:
    """Note includes of files or sections that are not there, and those that no link to the file precedes.

    A code host shows the line of an include as it stands; a reader there needs the link.
    """
    text = site.pages[page]
    site.problems += [
        f'{page}:{number}: {line.strip()} includes nothing: it should read --8<-- "path"'
        for number, line in enumerate(text.splitlines(), 1)
        if _MEANT_AS_INCLUDE.match(line) and not _INCLUDE.match(line)
    ]
    for match in _INCLUDE.finditer(text):
        where = f"{page}:{text.count(chr(10), 0, match.start()) + 1}"
        path, _, section = match["path"].partition(":")
        if not (site.root / path).is_file():
            site.problems.append(f"{where}: {path}, which is to be included, is not in the repository")
            continue
        marked = rf"--8<--\s+\[\s*start:\s*{re.escape(section)}\s*\]"
        if (
            section
            and not section[0].isdigit()
            and not re.search(marked, (site.root / path).read_text("utf-8"))
        ):
            site.problems.append(f"{where}: {path} marks no section {section}: # --8<-- [start:{section}]")
        link = f"]({posixpath.relpath(path, posixpath.dirname(page) or '.')}"
        if link not in text[: match.start()]:
            site.problems.append(f"{where}: a link to {path} must precede its include: [...{link})")


def _write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
