from __future__ import annotations

from html.parser import HTMLParser

import markup
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt


class Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def rendered(markdown: str) -> Words:
    reader = Words()
    reader.feed(MarkdownIt("commonmark").enable("table").render(markdown))
    return reader


printable = st.text(
    st.characters(categories=("L", "N", "P", "S"), include_characters=" ", exclude_characters="`")
)


@given(printable)
def test_text_shows_as_it_is(words: str) -> None:
    told = " ".join(words.split())
    shown = rendered(f"a {markup.text(words)} b")

    assert " ".join(shown.words.split()) == f"a {told} b".replace("  ", " ")
    assert shown.tags == ["p"]


@given(printable.filter(str.strip))
def test_code_in_a_cell_shows_as_it_is(words: str) -> None:
    shown = rendered(markup.table(("a", "b"), [(markup.code(words), "x")]))

    assert shown.tags.count("code") == 1
    assert shown.tags.count("td") == 2
    assert " ".join(words.split()) in " ".join(shown.words.split())


def test_backticks_become_code() -> None:
    assert markup.text("see `a_b` <now>") == "see <code>a&#95;b</code> &#60;now&#62;"


def test_empty_columns_are_left_out() -> None:
    assert markup.table(("a", "b", "c"), [("1", "", "3"), ("4", "", "")]) == (
        "| a | c |\n| --- | --- |\n| 1 | 3 |\n| 4 |  |\n"
    )


def test_a_fence_is_longer_than_what_it_holds() -> None:
    fenced = markup.fence("````\nx\n````\n", "text")

    assert rendered(fenced).words == "````\nx\n````\n\n"
