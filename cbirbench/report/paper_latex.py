"""``tables.tex``: the paper's tables as a fragment for LaTeX, set with booktabs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from cbirbench.report.paper_layout import Cell, Note, PaperTable

HINT = """\
% The paper's tables from our runs, written by `cbirbench paper`: use it as \\input{tables.tex}.
% It needs in the preamble:
%   \\usepackage{booktabs}   % rules
%   \\usepackage{graphicx}   % \\resizebox, so that wide tables fit the page
% and with a TeX older than 2018 also \\usepackage[utf8]{inputenc}.
% To see it alone:
%   \\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{tables.tex}\\end{document}
"""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\symbol{96}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
}


def tables_latex(tables: Sequence[PaperTable]) -> str:
    """All tables as one fragment; the hint on its preamble is in comments at its top."""
    parts, seen = [HINT], Counter[int]()
    for item in tables:
        seen[item.number] += 1  # tables 3 and 5 come once for each external cohort
        again = f"-{seen[item.number]}" if seen[item.number] > 1 else ""
        parts.append(_table(item, f"{item.number}{again}"))
    return "\n".join(parts)


def escape(text: str) -> str:
    """Plain text as LaTeX prints it."""
    # Side by side, two hyphens would become a dash and two quotes one: a command would read wrongly.
    apart = {"-", "'"}
    following = zip(text, f"{text[1:]} ", strict=False)
    return "".join(f"{a}{{}}" if a == b and a in apart else _SPECIAL.get(a, a) for a, b in following)


def _table(item: PaperTable, label: str) -> str:
    columns = "l" + "c" * len(item.headings)
    rows = [_row([escape(name), *map(_cell, cells)]) for name, cells in item.rows]
    return "\n".join(
        [
            r"\begin{table*}[p]",
            r"\centering",
            rf"\caption{{The paper's table {item.number}. {escape(item.title)}}}",
            rf"\label{{tab:cbirbench-{label}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            *_header(item),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\medskip",
            r"\begin{minipage}{\textwidth}\scriptsize\raggedright",
            *(rf"\textsuperscript{{{letter}}} {_note(note)}\par" for letter, note in item.footnotes.items()),
            *(rf"{_note(note)}\par" for note in item.notes),
            r"\end{minipage}",
            r"\end{table*}",
            "",
        ]
    )


def _header(item: PaperTable) -> list[str]:
    """The paper's metrics over their columns, then what is computed, then from where in two lines."""
    lines = []
    if any(part.group for part in item.headings):
        groups = [(name, len(list(parts))) for name, parts in groupby(item.headings, key=lambda p: p.group)]
        lines.append(
            _row(["", *(rf"\multicolumn{{{count}}}{{c}}{{{escape(name)}}}" for name, count in groups)])
        )
        start, rules = 2, []
        for _, count in groups:
            rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
            start += count
        lines.append("".join(rules))
    lines.append(_row([escape(item.first), *(escape(part.metric) for part in item.headings)]))
    sources = [[escape(part.source[place]) for part in item.headings] for place in (0, 1)]
    return [*lines, *(_row(["", *line]) for line in sources if any(line))]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.bold:
        text = rf"\textbf{{{text}}}"
    if cell.bold_in_paper:
        text += "*"
    return text + (rf"\textsuperscript{{{','.join(cell.letters)}}}" if cell.letters else "")


def _note(note: Note) -> str:
    return escape(note.text) + (rf" \texttt{{{escape(note.command)}}}" if note.command else "")
