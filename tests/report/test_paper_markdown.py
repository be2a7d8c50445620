import re

from markdown_it import MarkdownIt

from cbirbench.report.paper_layout import Cell, Heading, Note, PaperTable
from cbirbench.report.paper_markdown import tables_markdown
from cbirbench.report.paper_runs import merge
from cbirbench.report.paper_tables import score_tables

WILD = "a|b *c* <i>d</i> `e` $f$"


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def small(**changed):
    plain = {
        "number": 2,
        "title": "Title",
        "first": "Row",
        "headings": (Heading("MAP", "MAP@5", ("this run,", "paper profile")),),
        "rows": (("one", (Cell("88.0 ± 1.6", bold=True, bold_in_paper=True, letters=("a", "b")),)),),
        "footnotes": {"a": Note("First."), "b": Note("Second:", "cbirbench run x")},
        "notes": (Note("General."),),
    }
    return PaperTable(**{**plain, **changed})


def test_a_table_with_its_footnotes():
    text = tables_markdown([small()], ["folder: phantom"], [])
    assert "## Table 2. Title" in text
    assert "| Row | MAP@5: this run, paper profile |" in text
    assert "| one | **88.0 ± 1.6**\\* <sup>a,b</sup> |" in text
    assert "- <sup>a</sup> First.\n- <sup>b</sup> Second: `cbirbench run x`\n- General.\n" in text
    assert "- folder: phantom\n" in text
    assert "## Figures" not in text


def test_figures_come_last():
    assert tables_markdown([small()], [], ["line"]).endswith("## Figures\n\nline\n")


def test_names_break_nothing():
    wild = small(
        title=WILD,
        rows=((WILD, (Cell(WILD),)),),
        footnotes={"a": Note(WILD, "run `x` ``y``")},
        notes=(Note(WILD),),
    )
    html = rendered(tables_markdown([wild], [WILD], []))
    assert "<i>" not in html and "<em>" not in html
    assert html.count("a|b *c* &lt;i&gt;d&lt;/i&gt; `e` $f$") == 6
    assert "<code>run `x` ``y``</code>" in html


def test_every_row_of_a_real_table_is_whole_and_bold_is_bold(finished):
    levels = {
        "simsiam-hu-clip": {"map@5": [0.90, 0.91, 0.92, 0.93, 0.94]},
        "simsiam-baseline": {"map@5": [0.80, 0.81, 0.82, 0.83, 0.84]},
        "imagenet": {"map@5": [0.7]},
    }
    html = rendered(tables_markdown(score_tables(merge([finished("a", levels)])), [], []))
    found = re.findall("<table>.*?</table>", html, flags=re.DOTALL)
    assert len(found) == 4 + 1  # tables 2 to 5, and the tests of table 2
    for table in found:
        assert table.count("<td>") == table.count("<th>") * (table.count("<tr>") - 1)
    assert re.findall("<strong>(.*?)</strong>", html) == ["92.0 ± 1.6"]
    assert "Tests of this table, profile paper:" in html
