import io

import pandas as pd
import pytest
from rich.console import Console

from cbirbench.report.scoreboard import scoreboard
from cbirbench.report.terminal import print_scoreboard, scoreboard_tables


def printed(board, width=120, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    print_scoreboard(board, console)
    return console.file.getvalue()


def line_of(text, name):
    return next(line for line in text.splitlines() if name in line and "│" in line)


def test_without_colour_the_table_says_everything(summary, scores):
    text = printed(scoreboard(summary, scores))
    assert "phantom — profile paper (changed: epochs)" in text
    assert "Synthetic data" in text
    assert "\x1b" not in text
    cells = [cell.strip() for cell in line_of(text, "simsiam-hu-clip (ours)").strip("│").split("│")]
    assert cells == ["simsiam-hu-clip (ours)", "2", "97.9 ± 2.9 •", "97.9 ± 2.9 •", "50.0 ± 0.0 •"]
    assert [c.strip() for c in line_of(text, "gabor").strip("│").split("│")][2] == "0.0 ± – †"
    for word in ("MAP@5", "ACC (5-NN)", "RR", "† simsiam-hu-clip (ours) scores significantly higher"):
        assert word in text


def test_too_few_runs_are_said_beneath_the_table(summary, scores):
    more = pd.concat([scores[scores["run"] == 0].assign(run=run) for run in range(3)])
    text = " ".join(printed(scoreboard(summary, more)).split())
    assert text.index("Too few training runs: 9 of 9 tests cannot reach p < 0.05") > text.index("gabor")


def test_a_floor_is_called_one_and_what_lies_below_it_is_said(summary, scores):
    summary["extractors"][1]["floor"] = True
    summary["benchmark"]["chance"] = {"map@5": 0.5}
    text = printed(scoreboard(summary, scores))
    assert "50.0 ± –" in line_of(text, "floor: hog")
    text = " ".join(text.split())
    assert "Chance, neighbours drawn at random: MAP@5 50.0 %." in text
    assert "no anatomy: gabor in MAP@5 (hog 50.0 %)" in text  # by its name alone
    assert "Mind: Not above a floor" in text
    assert text.index("no anatomy") > text.index("neighbours drawn at random")


def test_the_best_is_bold(summary, scores):
    text = printed(scoreboard(summary, scores), force_terminal=True, color_system="standard")
    assert "\x1b[1m97.9 ± 2.9 •" in text
    assert "\x1b[1m0.0" not in text


def test_real_data_is_not_called_synthetic(summary, scores):
    summary["benchmark"]["synthetic"] = False
    assert "ynthetic" not in printed(scoreboard(summary, scores))


def test_names_are_not_read_as_markup_or_control_sequences(summary, scores):
    wild = "h[red]o[/red]g[/]\x1b[2J"
    summary["extractors"][1]["name"] = wild
    summary["extractors"][1]["aliases"] = ["[link=x]"]
    summary["benchmark"]["name"] = "[bold]b[/nothing]"
    board = scoreboard(summary, scores.replace({"extractor": {"hog": wild}}))
    text = printed(board)
    assert "h[red]o[/red]g[/]?[2J ([link=x])" in text
    assert "[bold]b[/nothing] — profile" in text
    assert "\x1b" not in text


def test_it_fits_eighty_columns(summary, scores):
    text = printed(scoreboard(summary, scores), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "97.9 ± 2.9 •" in text


def test_marks_can_be_printed_by_old_windows_consoles(summary, scores):
    few = scores[scores["patient_id"].isin(["p0", "p1", "p2"])]
    board = scoreboard(summary, few)
    (text := "".join(board.marks(row, "map@5") for row in board.rows)).encode("cp1252")
    assert text == "•‡‡"


def row_cells(text, name):
    line = next(line for line in text.splitlines() if name in line and "│" in line)
    return [cell.strip() for cell in line.removeprefix("│").removesuffix("│").split("│")]


def test_chance_and_reliability_stand_beside_the_relevance_rank(explained, scores):
    text = printed(scoreboard(explained, scores))
    head = next(line for line in text.splitlines() if "MAP@5" in line)
    names = [name.strip() for name in head.strip("┃").split("┃")]
    assert names == ["extractor", "runs", "MAP@5", "ACC (5-NN)", "RR", "×chance", "rel."]
    assert row_cells(text, "simsiam-hu-clip (ours)")[4:] == ["50.0 ± 0.0 •", "6.2×", "0.93"]
    assert row_cells(text, "gabor")[5:] == ["3.1×", "–"]


def test_controls_are_set_apart_and_only_in_columns_of_explanations(explained, scores):
    text = printed(scoreboard(explained, scores))
    expected = ["control: random-map", "", "", "", "7.6 ± –", "0.9×", ""]
    assert row_cells(text, "control: random-map") == expected
    lines = text.splitlines()
    place = next(place for place, line in enumerate(lines) if "control: random-map" in line)
    assert lines[place - 1].startswith("├")
    assert "gabor" in lines[place - 2]


@pytest.mark.parametrize("width", [80, 60, 53])
def test_nothing_of_an_explained_run_is_cut_off(explained, scores, width):
    text = printed(scoreboard(explained, scores), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    whole = printed(scoreboard(explained, scores))
    for name in ("simsiam-hu-clip (ours)", "hog", "gabor", "control: center-map"):
        shown = {
            cell.strip()
            for line in text.splitlines()
            if name in line and "│" in line
            for cell in line.split("│")
        }
        assert set(row_cells(whole, name)) - {""} == shown - {""}


def test_eighty_columns_take_one_table_and_fewer_take_two(explained, scores):
    board = scoreboard(explained, scores)
    assert len(scoreboard_tables(board, 80)) == 1
    retrieval, explanation = scoreboard_tables(board, 60)
    assert (retrieval.row_count, explanation.row_count) == (3, 5)
    assert str(retrieval.title).startswith("phantom") and explanation.title is None
    assert retrieval.caption is None and "Synthetic" in str(explanation.caption)


def test_a_very_narrow_terminal_still_gets_every_metric(explained, scores):
    assert len(scoreboard_tables(scoreboard(explained, scores), 10)) == 3


def test_many_metrics_are_dealt_to_tables(explained, scores):
    more = [f"top-k-intersection@{k}" for k in (10, 100, 1000)]
    explained["metrics"] += more
    ranks = scores[scores["metric"] == "relevance-rank"]
    scores = pd.concat([scores, *(ranks.assign(metric=name) for name in more)])
    text = printed(scoreboard(explained, scores), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text.partition("Percent;")[0]


def test_without_relevance_ranks_there_are_no_columns_beside_them(pointing):
    text = printed(scoreboard(*pointing))
    assert "×chance" not in text and "rel." not in text
    assert row_cells(text, "control: center-map")[4] == "25.0 ± –"


def test_names_of_controls_are_not_read_as_markup(explained, scores):
    controls = explained["explanations"]["controls"]
    controls["[red]x[/]\x1b"] = controls["random-map"]
    text = printed(scoreboard(explained, scores))
    assert "control: [red]x[/]?" in text and "\x1b" not in text


def test_one_extractor_alone(explained, scores):
    explained["extractors"] = explained["extractors"][:1]
    text = printed(scoreboard(explained, scores[scores["extractor"] == "simsiam-hu-clip"]))
    assert row_cells(text, "simsiam-hu-clip (ours)")[4:] == ["50.0 ± 0.0", "6.2×", "0.93"]
