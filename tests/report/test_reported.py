"""The paper's figures as kept here are consistent with what is said to be wrong with them."""

import pytest
import scipy.stats

from cbirbench.report.reported import FLAWS, METRICS, OURS, TABLES


def figures(number, label):
    (table,) = [table for table in TABLES if table.number == number]
    (row,) = [row for row in table.rows if label in row.label]
    return row.figures


def numbers(figure):
    mean, _, deviation = figure.text.partition(" ± ")
    return float(mean), float(deviation) if deviation else None


def test_tables_2_to_5_with_ours_last():
    assert [table.number for table in TABLES] == [2, 3, 4, 5]
    assert [table.external for table in TABLES] == [False, True, False, True]
    for table in TABLES:
        assert table.rows[-1].extractor == OURS
        assert table.metrics == (METRICS if table.number < 4 else METRICS[:2])
        for row in table.rows:
            assert tuple(row.figures) == table.metrics
            assert all(0 < numbers(figure)[0] < 100 for figure in row.figures.values())


def test_the_figures_that_the_protocol_quotes():
    for number, texts in ((2, ["79.4", "80.3", "5.00"]), (3, ["80.7", "83.0", "4.34"])):
        (table,) = [table for table in TABLES if table.number == number]
        assert [figure.text for figure in table.rows[0].figures.values()] == texts
    assert [f.text for f in figures(2, "baseline").values()] == ["87.5 ± 1.0", "88.7 ± 0.8", "14.7 ± 3.1"]
    assert [f.text for f in figures(2, "ours").values()] == ["88.7 ± 0.8", "91.2 ± 1.1", "14.8 ± 2.1"]
    assert [f.text for f in figures(3, "baseline").values()] == ["83.7 ± 1.7", "86.2 ± 2.4", "18.4 ± 3.0"]
    assert [f.text for f in figures(3, "ours").values()] == ["84.3 ± 1.7", "87.8 ± 2.3", "18.0 ± 3.5"]
    assert [f.text for f in figures(5, "HOG").values()] == ["78", "75"]


@pytest.mark.parametrize(
    ("number", "metric", "flaw", "p"),
    [
        (2, "relevance-rank", "bold-rr-2", 0.45),
        (3, "map", "bold-map-3", 0.14),
        (3, "relevance-rank", "bold-rr-3", 0.65),
    ],
)
def test_the_p_of_a_bold_figure_follows_from_the_printed_ones(number, metric, flaw, p):
    ours, baseline = figures(number, "ours")[metric], figures(number, "baseline")[metric]
    assert ours.bold and flaw in ours.flaws
    first, second = numbers(ours), numbers(baseline)
    found = scipy.stats.ttest_ind_from_stats(*first, 20, *second, 20, alternative="greater").pvalue
    assert found == pytest.approx(p, abs=0.01)
    assert f"p of about {p:.2f}".replace("0.", ".") in FLAWS[flaw]


def test_both_tables_print_one_row_and_it_contradicts_the_others():
    four, five = figures(4, "Ours"), figures(5, "Ours")
    assert [f.text for f in four.values()] == [f.text for f in five.values()] == ["89.1 ± 1.3", "90.6 ± 1.4"]
    assert all("one-row" in figure.flaws for figure in (*four.values(), *five.values()))
    for number in (2, 3):
        assert figures(number, "ours")["map"].text != four["map"].text
        assert figures(number, "ours")["knn-accuracy"].text != four["knn-accuracy"].text


def test_every_flaw_stands_at_a_figure():
    used = {
        flaw for t in TABLES for row in t.rows for figure in row.figures.values() for flaw in figure.flaws
    }
    assert used == set(FLAWS)


def test_fractions_and_chance_are_marked():
    for number in (4, 5):
        for label in ("Gabor", "HOG"):
            assert all("fraction" in figure.flaws for figure in figures(number, label).values())
    assert all("coin" in f.flaws and f.text == "50" for f in figures(4, "Gabor").values())
    assert {f.bold for f in figures(3, "baseline").values()} == {True, False}
