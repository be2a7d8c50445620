"""Checks a built site: every link and anchor leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("source", "srcset")}
LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload"}
COUNTED = ("li", "table", "pre")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_STYLE = re.compile(r"(?:@import\s+|url\(\s*)[\"']?(?P<url>(?:https?:)?//[^\"')\s]+)")


@dataclass
class Page:
    """What one page of HTML holds.

    Attributes:
        anchors: Its ids.
        links: Where it leads, and what it shows of its own site.
        foreign: What a browser would load from elsewhere to show it.
        counts: Lists' items, tables and blocks of code of its content.
    """

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.inside = self.inside or tag == "article"
        if self.inside and tag in COUNTED:
            self.page.counts[tag] += 1
        self.page.anchors |= {values[name] for name in ("id", "name") if values.get(name) and tag != "meta"}
        loading = tag == "link" and bool(LOADED_LINKS & set(values.get("rel", "").split()))
        for name in ("href", "src", "srcset"):
            target = values.get(name, "")
            if not target or target.startswith("data:"):
                continue
            if not _ELSEWHERE.match(target):
                self.page.links.append(target)
            elif loading or (tag, name) in LOADED:
                self.page.foreign.append(target)

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "article"


def read(file: Path) -> Page:
    """Parse one page."""
    reader = _Reader()
    reader.feed(file.read_text("utf-8"))
    reader.close()
    return reader.page


def problems(site: Path) -> list[str]:
    """What is wrong with a built site, a line each."""
    pages = {file.relative_to(site).as_posix(): read(file) for file in sorted(site.rglob("*.html"))}
    found = []
    for name, page in pages.items():
        found += [f"{name}: {target} would be loaded from elsewhere" for target in page.foreign]
        # The page for wrong addresses is shown at any of them, so its links are the server's business.
        links = [] if name == "404.html" else page.links
        found += [f"{name}: {reason}" for target in links if (reason := _dead(site, pages, name, target))]
    for style in sorted(site.rglob("*.css")):
        where = style.relative_to(site).as_posix()
        matches = _STYLE.finditer(style.read_text("utf-8"))
        found += [f"{where}: {match['url']} would be loaded from elsewhere" for match in matches]
    return list(dict.fromkeys(found))


def _dead(site: Path, pages: dict[str, Page], name: str, target: str) -> str:
    """Why a link leads nowhere; empty where it leads somewhere."""
    path, _, anchor = target.partition("#")
    path = unquote(path.partition("?")[0])
    goal = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
    if (site / goal).is_dir():
        goal = posixpath.normpath(posixpath.join(goal, "index.html"))
    if goal.startswith("../") or not (site / goal).is_file():
        return f"the link {target} is dead: there is no {goal}"
    if anchor and goal in pages and unquote(anchor) not in pages[goal].anchors:
        return f"the link {target} is dead: {goal} has no anchor {anchor}"
    return ""
