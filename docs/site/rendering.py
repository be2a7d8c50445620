"""Checks that a page reads the same in the site as on a code host, whose Markdown (CommonMark) differs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import built_html
import staging
from markdown_it import MarkdownIt

_TOKENS = {"list_item_open": "li", "table_open": "table", "fence": "pre", "code_block": "pre"}


def problems(root: Path, site: Path) -> list[str]:
    """Pages with other numbers of list items, tables or blocks of code than CommonMark makes of them.

    The usual reasons: no empty line before a list or a table, or less than four spaces before a nested item.
    """
    found = []
    for page in staging.authored(root):
        built = site / html_path(page)
        there, here = counts((root / page).read_text("utf-8")), built_html.read(built).counts
        found += [
            f"{page}: {here[tag]} <{tag}> in the site, {there[tag]} on a code host: an empty line before "
            "each list and table, and four spaces before what belongs to an item, make them the same"
            for tag in built_html.COUNTED
            if here[tag] != there[tag]
        ]
    return found


def html_path(page: str) -> str:
    """Where the site has a page."""
    return (
        page.removesuffix("README.md") + "index.html" if page.endswith("README.md") else f"{page[:-3]}.html"
    )


def counts(text: str) -> Counter[str]:
    """List items, tables and blocks of code as CommonMark reads them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return Counter(_TOKENS[token.type] for token in tokens if token.type in _TOKENS and token.info != "math")
