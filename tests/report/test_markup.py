import html

import pytest
from markdown_it import MarkdownIt

from cbirbench.report.markup import inline, table


def shown(markdown):
    """What a reader sees of a line of Markdown: its text, and the tags around it."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).renderInline(markdown)


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "*bold*",
        "_it_",
        "`code`",
        "[x](http://evil)",
        "<script>",
        "![i](u)",
        "~~s~~",
        "&lt;",
        "a\\|b",
        "# h",
    ],
)
def test_inline_text_is_shown_as_it_is(name):
    rendered = shown(inline(name))
    assert "<" not in rendered
    assert html.unescape(rendered) == name


def test_a_table_has_a_rule_beneath_its_header():
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]
