import math
import re

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from cbirbench.report.markdown import report


def section(text, title):
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def cells(text):
    """The cells of every table row, header and rule included."""
    return [
        [c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_the_same_input_gives_the_same_text(summary, scores, training):
    first = report(summary, scores, training)
    assert first == report(summary, scores.sample(frac=1, random_state=0), training)
    assert first.endswith("```\n")


def test_synthetic_data_is_said_before_any_number(summary, scores):
    text = report(summary, scores)
    assert text.index("**Synthetic data.**") < text.index("24 query slices")
    summary["benchmark"]["synthetic"] = False
    assert "ynthetic data" not in report(summary, scores)


def test_says_what_was_measured(summary, scores):
    assert (
        "24 query slices (12 scans, 12 patients) were each looked up among 48 gallery slices (24 scans), "
        "nearest first by euclidean distance, by the features of: simsiam-hu-clip (ours), hog, gabor."
    ) in report(summary, scores)


def test_table_of_scores(summary, scores):
    table = cells(section(report(summary, scores), "Scores"))
    assert table[0] == ["extractor", "runs", "MAP@5", "ACC (5-NN)", "RR"]
    assert table[2] == [
        "simsiam-hu-clip (ours)",
        "2",
        "**97.9 ± 2.9** •",
        "**97.9 ± 2.9** •",
        "**50.0 ± 0.0** •",
    ]
    assert table[3] == ["hog", "1", "50.0 ± – †", "50.0 ± – †", "25.0 ± – †"]


def test_few_patients_are_warned_of_at_the_top(summary, scores):
    text = report(summary, scores[scores["patient_id"].isin(["p0", "p1"])])
    assert text.index("**Mind:** 2 query patients say little") < text.index("## Scores")


def test_too_few_runs_are_warned_of_at_the_top(summary, scores):
    more = pd.concat([scores[scores["run"] == 0].assign(run=run) for run in range(3)])
    text = report(summary, more)
    assert text.index("**Mind:** Too few training runs: 9 of 9 tests") < text.index("## Scores")
    assert "Too few training runs" not in report(summary, scores)  # those tests are over patients


def test_chance_level_of_rr(summary, scores):
    assert "scores the organ's mean share of the slice, 8.5 % here." in report(summary, scores)
    summary["benchmark"]["mean_query_mask_fraction"] = math.nan
    assert "scores the organ's mean share of the slice." in report(summary, scores)


@pytest.mark.parametrize(
    ("metric", "title", "meaning"),
    [
        ("pointing-game", "pointing", "share of queries whose most important pixel lies inside"),
        ("top-k-intersection@500", "top-500", "of a slice's 500 most important pixels, the share inside"),
        ("attribution-localisation", "attr. loc.", "share of a map's importance that lies inside"),
    ],
)
def test_each_metric_on_maps_says_what_it_is_and_its_chance_level(summary, scores, metric, title, meaning):
    summary["metrics"] = [metric if name == "relevance-rank" else name for name in summary["metrics"]]
    renamed = scores.assign(metric=scores["metric"].replace("relevance-rank", metric))
    lines = section(report(summary, renamed), "How to read the numbers").splitlines()
    (line,) = [line for line in lines if line.startswith(f"- **{title}** ({metric} in the files): {meaning}")]
    assert line.endswith("A map of random numbers scores the organ's mean share of the slice, 8.5 % here.")


def test_departures(summary, scores):
    text = report(summary, scores)
    assert cells(section(text, "Departures from the profile"))[2] == [
        "simsiam-hu-clip",
        "epochs",
        "250",
        "5",
        "benchmark",
    ]
    summary["departures"] = []
    text = report(summary, scores)
    assert "None: every option is as in the profile paper." in text
    assert "Changed from the profile" not in text


def test_undefined_values(summary, scores):
    assert cells(section(report(summary, scores), "Undefined values"))[2:] == [["hog", "RR", "1 of 12"]]
    without = scores[scores["metric"] == "map@5"]
    summary["metrics"] = ["map@5"]
    assert "There are none." in section(report(summary, without), "Undefined values")


def test_training_and_its_warnings(summary, scores, training):
    text = report(summary, scores, training)
    table = cells(section(text, "Training"))
    assert table[2] == ["simsiam-hu-clip", "0", "2", "-0.25", "-0.75", "0.03", "0.04419", "–", "–"]
    assert all(len(row) == 9 for row in table)
    assert "embeddings collapsed" in table[3][-1]
    assert text.index("**Mind:** simsiam-hu-clip, run 1: embeddings collapsed") < text.index("## Scores")
    assert "Nothing was trained" in report(summary, scores)


def test_data_options_versions_and_command(summary, scores):
    text = report(summary, scores)
    assert "| data\\_fingerprint | 0123abcd |" in text
    assert "### hog\n\ncbirbench-hog 0.1; not trained here." in text
    assert "| window | \\[-200.0, 300.0\\] |" in text
    assert "| versions: torch | 2.9 |" in text
    assert "```\ncbirbench run phantom --extractors ours,hog,gabor\n```" in text


def test_wild_names_break_no_table(summary, scores, training):
    wild = "h|o`g\n**x** <b>"
    summary["extractors"][1]["name"] = wild
    summary["extractors"][1]["options"] = {"a|b": "x\n| y |"}
    summary["command"] = "cbirbench run x\n```\n# injected ````"
    text = report(summary, scores.replace({"extractor": {"hog": wild}}), training)
    rendered = MarkdownIt("commonmark").enable("table").render(text)
    assert "<b>" not in rendered
    assert rendered.count("<h1>") == 1
    assert rendered.count("<td>h|o`g **x** &lt;b&gt;</td>") == 2 + 6  # scores, undefined; A or B of six pairs
    assert "<td>x | y |</td>" in rendered
    for table in re.findall("<table>.*?</table>", rendered, flags=re.DOTALL):
        columns = table.count("<th>")
        assert table.count("<td>") == columns * (table.count("<tr>") - 1)


def test_the_snippet_computes_the_scores_again(summary, scores, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    ids = [f"q{i:02}" for i in range(24)] + [f"g{i:02}" for i in range(48)]
    label = dict(zip(ids, rng.integers(0, 2, len(ids)), strict=True))
    pd.DataFrame({"slice_id": ids, "label": [label[i] for i in ids]}).to_parquet(tmp_path / "slices.parquet")
    near, expected = [], []
    for query in ids[:24]:
        found = list(rng.choice(ids[24:], size=7, replace=False))
        near += [("hog", 0, query, rank, gallery, 0.0) for rank, gallery in enumerate(found, start=1)]
        hits = [label[gallery] == label[query] for gallery in found]
        expected.append(np.mean([np.mean(hits[:k]) for k in range(1, 6)]))
    columns = ["extractor", "run", "query_id", "rank", "gallery_id", "distance"]
    pd.DataFrame(near, columns=columns).sample(frac=1, random_state=0).to_parquet(
        tmp_path / "neighbours.parquet"
    )
    scores.to_parquet(tmp_path / "scores.parquet")

    code = re.search("```python\n(.*?)```", report(summary, scores), flags=re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "snippet", "exec"), names)
    assert names["table"].loc[("map@5", "simsiam-hu-clip")].to_list() == pytest.approx(
        [100 * (23 / 24 + 1) / 2, 100 / 24 / math.sqrt(2)]
    )
    assert names["near"]["precision"].mean() == pytest.approx(np.mean(expected))
    assert "simsiam-hu-clip" in capsys.readouterr().out


def test_table_of_scores_of_an_explained_run(explained, scores):
    text = report(explained, scores)
    table = cells(section(text, "Scores"))
    assert table[0] == ["extractor", "runs", "MAP@5", "ACC (5-NN)", "RR", "RR/chance", "reliability"]
    assert table[2][4:] == ["**50.0 ± 0.0** •", "6.2×", "0.93"]
    assert table[4][4:] == ["25.0 ± – †", "3.1×", "–"]
    assert [len(row) for row in table] == [7] * 7
    control = [cell.strip() for cell in table[5]]
    assert control == ["*control: random-map*", "", "", "", "7.6 ± –", "0.9×", ""]


def test_explanations_have_a_section_before_the_departures(explained, scores):
    text = report(explained, scores)
    assert text.index("## Significance") < text.index("## Explanations") < text.index("## Departures")
    assert "### Where the attention goes" in section(text, "Explanations")


def test_poor_maps_are_warned_of_at_the_top(explained, scores):
    text = report(explained, scores)
    assert text.index("**Mind:** Mean reliability of the maps below 0.8 (hog 0.60)") < text.index("## Scores")
    assert text.index("**Mind:** hog: its maps find the organ no better") < text.index("## Scores")


def test_without_relevance_ranks_the_section_is_there_and_their_columns_are_not(pointing):
    text = report(*pointing)
    table = cells(section(text, "Scores"))
    assert len(table[0]) == 5
    assert [cell.strip() for cell in table[6]] == ["*control: center-map*", "", "", "", "25.0 ± –"]
    assert "## Explanations" in text
