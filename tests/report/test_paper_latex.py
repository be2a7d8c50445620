"""The fragment against a strict little reader of LaTeX, since no TeX may be at hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.report.paper_architecture import architecture_table
from cbirbench.report.paper_latex import escape, tables_latex
from cbirbench.report.paper_layout import Cell, Heading, Note, PaperTable
from cbirbench.report.paper_runs import merge
from cbirbench.report.paper_tables import score_tables

LEVELS = {
    "simsiam-hu-clip": {"map@5": [0.90, 0.91, 0.92, 0.93, 0.94], "relevance-rank": [0.1] * 5},
    "simsiam-baseline": {"map@5": [0.80, 0.81, 0.82, 0.83, 0.84], "relevance-rank": [0.2] * 5},
    "imagenet": {"map@5": [0.7], "relevance-rank": [0.05]},
    "hog": {"map@5": [0.6], "relevance-rank": [0.05]},
}
WORDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\symbol{34}": '"',
    r"\symbol{96}": "`",
    r"\ldots{}": "…",
    r"$\pm$": "±",
    r"$\times$": "×",
    r"\textemdash{}": "—",
    r"\textendash{}": "–",
    r"\textquotedblleft{}": "“",
    r"\textquotedblright{}": "”",
    "-{}": "-",
    "'{}": "'",
    **{f"\\{character}": character for character in "{}$&#%_"},
}


def printed(latex):
    """The text that escaped LaTeX prints, read token by token."""
    pattern = "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True))
    text, place = "", 0
    assert not re.search("--|''|``", latex)  # ligatures: a dash or another quote
    for token in re.finditer(pattern, latex):
        between = latex[place : token.start()]
        assert not set(between) & set('\\{}$&#%_~^<>|"`'), between
        text += between + WORDS[token[0]]
        place = token.end()
    assert not set(latex[place:]) & set('\\{}$&#%_~^<>|"`'), latex[place:]
    return text + latex[place:]


def without_comments(latex):
    return "\n".join(re.split(r"(?<!\\)%", line)[0] for line in latex.splitlines())


def check(latex):
    """Braces and environments balance, and each row has as many cells as its tabular has columns."""
    body = without_comments(latex)
    bare = re.sub(r"\\[\\{}$&#%_]", "", body)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", body):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    tables = re.findall(
        r"\\begin\{tabular\}\{@\{\}([lcr]+)@\{\}\}(.*?)\\end\{tabular\}", body, flags=re.DOTALL
    )
    assert len(tables) == body.count(r"\begin{tabular}")
    for columns, rows in tables:
        for row in rows.strip().splitlines():
            if not row.endswith(r"\\"):
                assert re.fullmatch(r"(\\(top|mid|bottom)rule|(\\cmidrule\(lr\)\{\d+-\d+\})+)", row), row
                continue
            cells = re.split(r"(?<!\\)&", row.removesuffix(r"\\"))
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            assert len(cells) + sum(spans) - len(spans) == len(columns), row
            # A star or a bracket at the start of a row would be read as an option of the \\ before it.
            assert not row.lstrip().startswith(("*", "["))
    return tables


@pytest.fixture
def fragment(finished):
    columns = merge([finished("a", LEVELS, departures=[("relax", "masks", 3000, 10)])])
    return tables_latex([architecture_table(columns), *score_tables(columns)])


def test_the_fragment_is_well_formed(fragment):
    assert len(check(fragment)) == 5
    assert [spec for spec, _ in check(fragment)] == ["lcccc", "lcccccc", "lcccccc", "lcccc", "lcccc"]


def test_a_column_for_each_profile(finished):
    released = {name: {"map@4": [0.5]} for name in LEVELS}
    columns = merge([finished("a", LEVELS), finished("b", released, profile="released-code")])
    latex = tables_latex(score_tables(columns))
    assert check(latex)[0][0] == "lccccccccc"
    assert r"\multicolumn{3}{c}{MAP}" in latex
    assert r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}\cmidrule(lr){8-10}" in latex
    assert "& MAP@5 & MAP@4 & MAP &" in latex


def test_bold_reported_and_footnoted_cells(fragment):
    assert r"\textbf{92.0 $\pm$ 1.6} & 88.7 $\pm$ 0.8*" in fragment
    assert fragment.count(r"\textbf{") == 1
    assert r"14.8 $\pm$ 2.1*\textsuperscript{" in fragment


def test_it_is_a_fragment_with_a_hint_in_comments(fragment):
    code = without_comments(fragment)
    assert r"\documentclass" not in code and r"\usepackage" not in code
    assert r"\usepackage{booktabs}" in fragment and r"\usepackage{graphicx}" in fragment
    assert all(rule in code for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_commands_keep_their_hyphens(fragment):
    assert r"\texttt{cbirbench run phantom -{}-extractors" in fragment
    assert "relax.masks=10" in fragment


def test_labels_differ_where_a_table_comes_twice(finished):
    tables = score_tables(merge([finished("a", LEVELS)]))
    labels = re.findall(r"\\label\{(.*?)\}", tables_latex([*tables, tables[1]]))
    assert len(labels) == len(set(labels)) == 5
    assert labels[-1] == "tab:cbirbench-3-2"


def test_wild_text_breaks_nothing():
    wild = '\\end{tabular} & 5 % off {x} $y$ #1 a_b ~ ^ <b> | "q" `r` -- [0]'
    table = PaperTable(
        number=2,
        title=wild,
        first=wild,
        headings=(Heading("MAP", wild, (wild, wild)), Heading("ACC", wild, ("", wild))),
        rows=((wild, (Cell(wild, bold=True, letters=("a",)), Cell(wild, bold_in_paper=True))),),
        footnotes={"a": Note(wild, wild)},
        notes=(Note(wild),),
    )
    assert len(check(tables_latex([table]))) == 1


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2200, exclude_characters="\x7f"), max_size=40))
def test_escaped_text_prints_as_it_was(text):
    assert printed(escape(text)) == text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50 % of a_b & c", r"50 \% of a\_b \& c"),
        ("--set", "-{}-set"),
        ("88.7 ± 0.8", r"88.7 $\pm$ 0.8"),
        ("–", r"\textendash{}"),
        ("''", "'{}'"),
        ("C:\\x{1}", r"C:\textbackslash{}x\{1\}"),
        ("", ""),
    ],
)
def test_escape(text, latex):
    assert escape(text) == latex
