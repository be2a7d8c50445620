import re

import pytest
from markdown_it import MarkdownIt

from cbirbench.report.explanation_section import explanation_section
from cbirbench.report.markdown import report
from cbirbench.report.scoreboard import scoreboard


def section(summary, scores):
    return "\n".join(explanation_section(summary, scoreboard(summary, scores)))


def tables(text):
    """Rows of cells of each table, the rule left out."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line[1:-1].split(" | ")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def test_nothing_is_said_where_nothing_was_explained(summary, scores):
    assert explanation_section(summary, scoreboard(summary, scores)) == []
    assert "## Explanations" not in report(summary, scores)


def test_every_relevance_rank_has_its_chance_and_reliability(explained, scores):
    table = tables(section(explained, scores))[0]
    assert table[0][:4] == ["extractor", "RR, %", "chance, %", "RR/chance"]
    assert table[0][4:] == [
        "reliability, mean",
        "lowest",
        "masks, mean (lowest–highest)",
        "maps",
        "undefined",
    ]
    masks = "2750 (500–3000)"
    # RR 50 % and 25 % over 8 %.
    assert table[1] == [
        "simsiam-hu-clip (ours)",
        *["50.0", "8.0", "6.2×", "0.93", "0.85", masks, "24", "0"],
    ]
    assert table[2] == ["hog", "25.0", "8.0", "3.1×", "0.60", "0.20", masks, "24", "3"]
    assert table[3] == ["gabor", "25.0", "8.0", "3.1×", "–", "–", masks, "24", "12"]
    assert table[4] == ["*control: random-map*", "7.6", "8.0", "0.9×", *[""] * 5]
    assert table[5] == ["*control: center-map*", "25.0", "8.0", "3.1×", *[""] * 5]


def test_options_that_are_not_set_are_left_out(explained, scores):
    assert "by RELAX: masks 3000, grid 7, estimator ratio.\n" in section(explained, scores)
    del explained["relax"]
    assert "RELAX" not in section(explained, scores)


def test_attention_has_the_target_first_and_extractors_under_each_other(explained, scores):
    table = tables(section(explained, scores))[1]
    assert table[0] == [
        "tissue",
        "extractor",
        *["area, %", "importance, %", "over area", "top tenth, %", "over area"],
    ]
    assert table[1] == [
        "**liver** (target)",
        *["simsiam-hu-clip (ours)", "8.0", "12.0", "1.5×", "16.0", "2.0×"],
    ]
    assert table[2][:2] == ["", "hog"]
    assert table[3] == ["bone", "simsiam-hu-clip (ours)", "5.0", "10.0", "2.0×", "20.0", "4.0×"]
    assert len(table) == 5  # gabor's maps are undefined and have none


def test_attention_of_a_single_extractor_needs_no_column_for_it(explained, scores):
    explained["extractors"] = explained["extractors"][1:2]
    table = tables(section(explained, scores[scores["extractor"] == "hog"]))[1]
    assert [row[0] for row in table] == ["tissue", "**liver** (target)", "bone"]
    assert {len(row) for row in table} == {6}


def test_unknown_shares_are_dashes(explained, scores):
    (part, _) = explained["explanations"]["extractors"]["hog"]["attention"]
    part.update(importance=None, top_tenth=None)
    assert ["", "hog", "5.0", "–", "–", "–", "–"] in tables(section(explained, scores))[1]


def test_without_attention_there_is_no_part_on_it(explained, scores):
    for item in explained["explanations"]["extractors"].values():
        item["attention"] = []
    assert "attention" not in section(explained, scores)


def test_without_relevance_ranks_reliability_is_still_shown(pointing):
    text = section(*pointing)
    table = tables(text)[0]
    assert table[0][:2] == ["extractor", "reliability, mean"]
    assert table[1][:3] == ["simsiam-hu-clip (ours)", "0.93", "0.85"]
    assert [row[0] for row in table[1:]] == ["simsiam-hu-clip (ours)", "hog", "gabor"]
    assert "Chance" not in text and "colours cannot be compared" in text


def test_an_extractor_without_maps_has_dashes(explained, scores):
    del explained["explanations"]["extractors"]["hog"]
    assert tables(section(explained, scores))[0][2] == ["hog", "25.0", "8.0", "3.1×", *["–"] * 5]


def figure(why, value, **more):
    item = {"file": "figures/retrieval/hog/a b(1).png", "extractor": "hog", "run": 0, "query_id": "a b(1)"}
    return {**item, "why": why, "map": value, "shown": 5, **more}


def test_figures_say_why_they_were_chosen_and_what_they_score(explained, scores):
    run = {"extractor": "simsiam-hu-clip", "run": 1, "file": "figures/retrieval/s/q.png", "query_id": "q"}
    run["shown"] = 3  # a gallery of three
    explained["figures"] = [figure("best", 1.0), figure("asked for", None), figure("worst", 0.125, **run)]
    text = section(explained, scores)
    assert text.index("### Explained retrievals") > text.index("### Where the attention goes")
    assert "chosen by the MAP over the slices shown" in text
    rendered = MarkdownIt("commonmark").render(text)
    best = "hog, query a b(1) (best, MAP@5 100.0 %)"
    assert f'<img src="figures/retrieval/hog/a%20b%281%29.png" alt="{best}" />' in rendered
    assert f"<p>{best}</p>" in rendered
    assert "<p>hog, query a b(1) (asked for, MAP@5 –)</p>" in rendered
    assert "<p>simsiam-hu-clip (ours), run 1, query q (worst, MAP@3 12.5 %)</p>" in rendered


def test_figures_need_no_other_part(summary, scores):
    assert "Explained retrievals" not in section({**summary, "figures": []}, scores)
    text = section({**summary, "figures": [figure("median", 0.5)]}, scores)
    assert text.startswith("### Explained retrievals")


@pytest.mark.parametrize("wild", ["h|o`g\n**x** <b>", "](x) ![y](z"])
def test_wild_names_break_nothing(explained, scores, wild):
    entry = explained["explanations"]
    entry["extractors"][wild] = entry["extractors"].pop("hog")
    entry["extractors"][wild]["attention"][0]["tissue"] = wild
    entry["extractors"][wild]["problems"] = {wild: 1}
    entry["controls"][wild] = entry["controls"].pop("random-map")
    explained["extractors"][1]["name"] = wild
    explained["figures"] = [figure(wild, 1.0, extractor=wild, query_id=wild, file=f"figures/{wild}.png")]
    text = report(explained, scores.replace({"extractor": {"hog": wild}}))
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    assert "<b>" not in rendered
    assert rendered.count("<img") == 1
    for table in re.findall("<table>.*?</table>", rendered, flags=re.DOTALL):
        assert table.count("<td") == table.count("<th>") * (table.count("<tr>") - 1)
