"""The tables by hand: what stands in each cell, what is bold, and what is said where nothing stands."""

import math

import pandas as pd
import pytest

from cbirbench.errors import UsageError
from cbirbench.report.paper_runs import merge
from cbirbench.report.paper_tables import external_cohorts, score_tables
from cbirbench.report.reported import FLAWS

MAP, ACC, RR = "map@5", "knn-accuracy@5", "relevance-rank"

# Five runs each. MAP: ours above the baseline in every run. ACC: they overlap. RR: ours is the lower.
OURS = {MAP: [0.86, 0.87, 0.88, 0.89, 0.90], ACC: [0.9, 0.8, 0.9, 0.8, 0.9], RR: [0.1, 0.1, 0.1, 0.1, 0.1]}
BASELINE = {
    MAP: [0.80, 0.81, 0.82, 0.83, 0.84],
    ACC: [0.9, 0.8, 0.9, 0.8, 0.8],
    RR: [0.2, 0.2, 0.2, 0.2, 0.3],
}
IMAGENET = {MAP: [0.7], ACC: [0.7], RR: [0.05]}
LEARNED = {"simsiam-hu-clip": OURS, "simsiam-baseline": BASELINE, "imagenet": IMAGENET}


def tables(*runs):
    return {table.number: table for table in score_tables(merge(runs))}


def cell(table, label, metric, source):
    """The cell of a row under a heading, ``("MAP", "paper profile")``."""
    (place,) = [
        place
        for place, part in enumerate(table.headings)
        if part.group == metric and source in " ".join(part.source)
    ]
    return dict(table.rows)[label][place]


def notes(table, found):
    return [table.footnotes[letter].text for letter in found.letters]


def said(table):
    return "\n".join(note.text for note in table.notes)


def test_each_cell_stands_beside_the_reported_figure(finished):
    table = tables(finished("a", LEARNED))[2]
    assert [label for label, _ in table.rows] == ["IN", "IN + SS (baseline)", "IN + SS (ours)"]
    # 86 to 90: the mean is 88, the sample deviation the square root of 10/4.
    assert cell(table, "IN + SS (ours)", "MAP", "paper profile").text == "88.0 ± 1.6"
    assert cell(table, "IN + SS (ours)", "MAP", "reported").text == "88.7 ± 0.8"
    assert cell(table, "IN", "MAP", "paper profile").text == "70.0 ± –"
    assert cell(table, "IN", "RR", "reported").text == "5.00"
    assert all(len(cells) == len(table.headings) == 6 for _, cells in table.rows)
    assert "runs: IN 1, IN + SS (baseline) 5, IN + SS (ours) 5; 12 query patients." in said(table)


def test_bold_is_what_our_own_tests_say(finished):
    table = tables(finished("a", LEARNED))[2]
    bold = {
        (label, part.group)
        for label, cells in table.rows
        for part, found in zip(table.headings, cells, strict=True)
        if found.bold
    }
    # MAP: 1 of 252 against the baseline, times 9 at most: .036. Not ACC, not RR, and never a reported figure.
    assert bold == {("IN + SS (ours)", "MAP")}
    assert table.boards["paper"].family == 9
    assert "Holm's correction over the 9 tests of this table" in said(table)
    assert cell(table, "IN + SS (ours)", "MAP", "reported").bold_in_paper


def test_three_runs_cannot_be_bold_and_it_is_said(finished):
    fewer = {
        name: {metric: levels[:3] for metric, levels in metrics.items()} for name, metrics in LEARNED.items()
    }
    table = tables(finished("a", fewer))[2]
    assert not any(found.bold for _, cells in table.rows for found in cells)
    assert "Too few training runs" in said(
        table
    ) and "of each extractor, 5 runs where it is one-sided" in said(table)


def test_beating_one_row_is_not_enough(finished):
    better = {**LEARNED, "imagenet": {**IMAGENET, MAP: [0.95]}}
    table = tables(finished("a", better))[2]
    assert not cell(table, "IN + SS (ours)", "MAP", "paper profile").bold
    assert not cell(table, "IN", "MAP", "paper profile").bold


def test_no_order_of_the_runs_own_makes_another_row_bold(finished):
    reordered = dict(reversed(LEARNED.items()))
    assert tables(finished("a", reordered))[2].rows == tables(finished("a", LEARNED))[2].rows


def test_a_missing_row_is_a_dash_with_the_command_that_fills_it(finished):
    without = {name: metrics for name, metrics in LEARNED.items() if name != "simsiam-baseline"}
    table = tables(finished("a", without))[2]
    missing = cell(table, "IN + SS (baseline)", "MAP", "paper profile")
    assert missing.text == "–"
    (letter,) = missing.letters
    assert table.footnotes[letter].command == (
        "cbirbench run phantom --extractors simsiam-baseline --profile paper"
    )
    # Ours beats all that is there, but the table's claim would be on all of its rows.
    assert not any(found.bold for _, cells in table.rows for found in cells)
    assert "nothing is bold, since rows are missing: IN + SS (baseline)." in said(table)


def test_a_metric_that_was_not_computed_is_a_dash_with_a_command(finished):
    without = {name: {MAP: metrics[MAP], ACC: metrics[ACC]} for name, metrics in LEARNED.items()}
    table = tables(finished("a", without))[2]
    missing = cell(table, "IN", "RR", "paper profile")
    assert missing.text == "–"
    assert notes(table, missing) == ["The runs with profile paper computed no RR; this does:"]
    assert cell(table, "IN + SS (ours)", "MAP", "paper profile").bold
    assert table.boards["paper"].family == 6


def test_an_extractor_of_a_run_without_that_metric(finished):
    one = finished("a", {"simsiam-hu-clip": OURS, "simsiam-baseline": BASELINE})
    table = tables(one, finished("b", {"imagenet": {MAP: [0.7], ACC: [0.7]}}))[2]
    missing = cell(table, "IN", "RR", "paper profile")
    assert missing.text == "–"
    assert notes(table, missing) == ["imagenet has no RR in the runs that were given; this makes one:"]
    assert cell(table, "IN + SS (ours)", "MAP", "paper profile").bold


def test_runs_in_several_folders_make_one_table(finished):
    apart = [finished(name, {name: metrics}) for name, metrics in LEARNED.items()]
    assert tables(*apart)[2].rows == tables(finished("a", LEARNED))[2].rows


def test_the_released_profile_has_columns_and_a_family_of_its_own(finished):
    released = {
        name: {"map@4" if metric == MAP else metric: levels for metric, levels in metrics.items()}
        for name, metrics in LEARNED.items()
    }
    released["imagenet"] = {**released["imagenet"], "map@4": [0.6]}
    table = tables(finished("a", LEARNED), finished("b", released, profile="released-code"))[2]
    assert [part.metric for part in table.headings[:3]] == ["MAP@5", "MAP@4", "MAP"]
    assert len(table.headings) == 9
    assert cell(table, "IN", "MAP", "released-code").text == "60.0 ± –"
    assert cell(table, "IN", "MAP", "this run, paper").text == "70.0 ± –"
    assert set(table.boards) == {"paper", "released-code"}
    assert "released-code: RR is of the absolute importance map." in said(table)
    assert not any("would add its columns" in note.text for note in table.notes)


def test_map_4_never_stands_as_map_5(finished):
    table = tables(finished("a", {"simsiam-hu-clip": {"map@4": [0.9], ACC: [0.9]}}))[2]
    found = cell(table, "IN + SS (ours)", "MAP", "paper profile")
    assert found.text == "–"
    assert notes(table, found) == ["The runs with profile paper computed no MAP@5; this does:"]


def test_only_the_released_profile_leaves_the_papers_column_empty(finished):
    table = tables(finished("b", {"hog": {"map@4": [0.7]}}, profile="released-code"))[4]
    found = cell(table, "HOG", "MAP", "this run, paper")
    assert found.text == "–"
    (letter,) = found.letters
    assert table.footnotes[letter].command == (
        "cbirbench run phantom --extractors gabor,hog,simsiam-hu-clip --profile paper"
    )
    assert cell(table, "HOG", "MAP", "released-code").text == "70.0 ± –"


def test_known_flaws_stand_at_the_cells_they_concern(finished):
    made = tables(finished("a", LEARNED))
    for number, label, metric, flaws in [
        (2, "IN + SS (ours)", "RR", ["chance", "bold-rr-2"]),
        (2, "IN", "MAP", ["normalisation"]),
        (3, "IN + SS (baseline)", "MAP", ["both-bold"]),
        (3, "IN + SS (ours)", "MAP", ["both-bold", "bold-map-3"]),
        (3, "IN + SS (ours)", "RR", ["chance", "bold-rr-3"]),
        (4, "Gabor", "ACC", ["coin", "fraction"]),
        (4, "Ours", "MAP", ["one-row"]),
        (5, "Ours", "ACC", ["one-row"]),
        (2, "IN + SS (ours)", "MAP", []),
    ]:
        table = made[number]
        found = notes(table, cell(table, label, metric, "reported"))
        assert sorted(found) == sorted(FLAWS[flaw] for flaw in flaws), (number, label, metric)


def test_handcrafted_figures_are_percent_too(finished):
    table = tables(finished("a", {"hog": {MAP: [0.7]}}))[4]
    assert cell(table, "HOG", "MAP", "reported").text == "77"
    assert cell(table, "HOG", "MAP", "paper profile").text == "70.0 ± –"


def test_letters_come_in_reading_order(finished):
    table = tables(finished("a", LEARNED))[2]
    letters = [letter for _, cells in table.rows for found in cells for letter in found.letters]
    assert list(dict.fromkeys(letters)) == list(table.footnotes) == list("abc")


def test_a_title_says_that_another_benchmark_is_not_the_papers(finished):
    table = tables(finished("a", LEARNED))[2]
    assert "measured on phantom, NOT on the paper's Decathlon data (synthetic data)" in table.title
    assert "The reported figures are NOT comparable" in said(table)
    assert "Synthetic data" in said(table)


def test_the_decathlon_is_comparable_while_its_slices_are_the_papers(finished):
    table = tables(finished("a", LEARNED, benchmark="decathlon"))[2]
    assert table.title.endswith(": decathlon — profile paper")
    assert "NOT" not in said(table) and "ynthetic" not in said(table)
    part = finished("a", LEARNED, benchmark="decathlon", departures=[("decathlon", "test_volumes", 31, 1)])
    table = tables(part)[2]
    assert "decathlon with changed slices, NOT the paper's data" in table.title
    assert "The reported figures are NOT comparable" in said(table)


def test_departures_are_named_in_title_and_notes_where_they_matter(finished):
    changed = [
        ("relax", "masks", 3000, 10),
        ("simsiam-hu-clip", "epochs", 250, 5),
        ("hog", "cell", 9, 8),
        ("someone-elses", "thing", 1, 2),
    ]
    levels = {**LEARNED, "hog": {MAP: [0.5], ACC: [0.5], RR: [0.1]}, "someone-elses": {MAP: [0.1]}}
    made = tables(finished("a", levels, departures=changed))
    assert made[2].title.endswith("profile paper (changed: epochs, masks)")
    assert made[4].title.endswith("profile paper (changed: cell, epochs)")
    assert "relax.masks 10, not 3000 (by the user)" in said(made[2])
    assert "relax" not in said(made[4])
    assert "nothing is changed from it" in said(tables(finished("a", LEARNED))[2])


def test_weights_that_are_not_imagenets_are_pointed_out(finished):
    run = finished("a", LEARNED)
    run.summary["extractors"][2]["options"]["weights"] = "random"
    table = tables(run)[2]
    (note,) = notes(table, cell(table, "IN", "MAP", "paper profile"))
    assert note == "Not from ImageNet's weights: this run's imagenet has weights=random."


def test_without_an_external_cohort_tables_3_and_5_keep_their_place(finished):
    made = tables(finished("a", LEARNED))
    assert list(made) == [2, 3, 4, 5]
    for number in (3, 5):
        assert "No run with an external cohort was given." in said(made[number])
        assert made[number].boards == {}
        own = [f for _, cells in made[number].rows for f in cells if not f.letters and f.text == "–"]
        assert len(own) == 3 * (3 if number == 3 else 2)
        assert "no external cohort was run" in made[number].title


def test_an_external_cohort_fills_tables_3_and_5_alone(finished):
    inner, outer = finished("a", LEARNED), finished("a", LEARNED)
    scores = pd.concat(
        [
            inner.scores.assign(cohort="phantom"),
            outer.scores.assign(cohort="clinic", value=outer.scores["value"] / 2),
        ]
    )
    run = finished("a", LEARNED)
    run = type(run)(run.folder, run.summary, scores, {})
    assert external_cohorts(merge([run])) == ["clinic"]
    made = tables(run)
    assert cell(made[2], "IN", "MAP", "paper profile").text == "70.0 ± –"
    assert cell(made[3], "IN", "MAP", "paper profile").text == "35.0 ± –"
    assert cell(made[3], "IN + SS (ours)", "MAP", "paper profile").bold
    assert "external cohort clinic" in made[3].title and "NOT the paper's UNN cohort" in made[3].title
    assert "NOT comparable" in said(made[3])
    assert made[2].rows == tables(inner)[2].rows


def test_each_of_two_external_cohorts_has_its_tables(finished):
    run = finished("a", LEARNED)
    scores = pd.concat([run.scores.assign(cohort=name) for name in ("phantom", "east", "west")])
    run = type(run)(run.folder, run.summary, scores, {})
    assert [table.number for table in score_tables(merge([run]))] == [2, 3, 3, 4, 5, 5]


def test_undefined_scores_are_a_dash(finished):
    run = finished("a", LEARNED)
    run.scores.loc[run.scores["metric"] == RR, "value"] = math.nan
    table = tables(run)[2]
    assert cell(table, "IN", "RR", "paper profile").text == "–"
    assert not cell(table, "IN + SS (ours)", "RR", "paper profile").bold


@pytest.mark.parametrize("number", [2, 4])
def test_the_chance_of_rr_is_said_where_rr_stands(finished, number):
    assert ("an RR of 8.5 %" in said(tables(finished("a", LEARNED))[number])) == (number == 2)


def with_cohort(run, **entry):
    told = {
        "name": "clinic",
        "synthetic": False,
        "gallery": "benchmark",
        "data_fingerprint": "abc",
        "masked_queries": 24,
        "explanations": {"chance": 0.125, "extractors": {}, "controls": {}},
        **entry,
    }
    scores = pd.concat([run.scores.assign(cohort="phantom"), run.scores.assign(cohort="clinic")])
    return type(run)(run.folder, {**run.summary, "cohorts": [told]}, scores, {})


def test_a_cohorts_table_has_the_chance_of_its_own_masks(finished):
    made = tables(with_cohort(finished("a", LEARNED)))
    assert "an RR of 12.5 %" in said(made[3])
    assert "an RR of 8.5 %" in said(made[2])


def test_commands_that_fill_a_cohorts_table_ask_its_queries(finished):
    (note,) = [
        n for n in tables(with_cohort(finished("a", LEARNED)))[3].notes if "released-code was" in n.text
    ]
    assert "--queries clinic=PATH" in note.command
    (own,) = [
        n for n in tables(with_cohort(finished("a", LEARNED)))[2].notes if "released-code was" in n.text
    ]
    assert "--queries" not in own.command


def test_a_cohort_that_was_its_own_gallery_says_so(finished):
    made = tables(with_cohort(finished("a", LEARNED), gallery="self"))
    assert "gallery of its other patients" in made[3].title


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_fingerprint": "other"}, "are of different slices"),
        ({"gallery": "self"}, "are ranked otherwise"),
    ],
)
def test_cohorts_of_one_name_that_differ_are_refused(finished, changed, said):
    one = with_cohort(finished("a", {"hog": {MAP: [0.7]}}))
    other = with_cohort(finished("b", {"gabor": {MAP: [0.5]}}), **changed)
    with pytest.raises(UsageError, match=rf"cohorts clinic of a and of b {said}"):
        merge([one, other])
