import io

import pandas as pd
from rich.console import Console

from cbirbench.report.scoreboard import scoreboard
from cbirbench.report.terminal import print_scoreboard


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
