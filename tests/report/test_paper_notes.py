from dataclasses import replace

from cbirbench.report.paper_notes import comparable, missing_rows, title
from cbirbench.report.paper_runs import merge
from cbirbench.report.paper_tables import score_tables
from cbirbench.report.reported import TABLES

LEVELS = {"hog": {"map@5": [0.7]}}


def column(run):
    return merge([run])["paper"]


def test_only_the_whole_decathlon_is_comparable(finished):
    assert not comparable(column(finished("a", LEVELS)))
    assert comparable(column(finished("a", LEVELS, benchmark="decathlon")))
    changed = [("decathlon", "slice_seed", 0, 1)]
    assert not comparable(column(finished("a", LEVELS, benchmark="decathlon", departures=changed)))
    elsewhere = [("hog", "cell", 9, 8)]
    assert comparable(column(finished("a", LEVELS, benchmark="decathlon", departures=elsewhere)))


def test_a_table_without_runs_misses_every_row():
    assert [row.label for row in missing_rows(TABLES[0], None)] == [
        "IN",
        "IN + SS (baseline)",
        "IN + SS (ours)",
    ]


def test_a_title_names_the_data(finished):
    phantom, decathlon = (column(finished("a", LEVELS, benchmark=name)) for name in ("phantom", "decathlon"))
    assert "measured on phantom, NOT on the paper's Decathlon data" in title(TABLES[0], phantom, "", {})
    assert title(TABLES[0], decathlon, "", {}).endswith(": decathlon")
    assert title(TABLES[1], decathlon, "", {}).endswith(": no external cohort was run")
    outside = title(TABLES[1], decathlon, "clinic\n2", {})
    assert outside.endswith("external cohort clinic 2, gallery of decathlon, NOT the paper's UNN cohort")


def ranked_column(finished, folder, levels, reliability, **entry):
    names = {name: {"reliability": {"mean": reliability, "lowest": 0.5}} for name in levels}
    run = finished(folder, {name: {"relevance-rank": [0.1]} for name in levels})
    return replace(run, summary={**run.summary, "explanations": {"extractors": names, **entry}})


def notes_on(runs, number):
    columns = merge(runs)
    (table,) = [item for item in score_tables(columns) if item.number == number]
    return "\n".join(note.text for note in table.notes)


def test_relevance_ranks_come_with_chance_and_reliability(finished):
    ours = ranked_column(finished, "a", ["simsiam-hu-clip"], 0.91, chance=0.07)
    other = ranked_column(finished, "b", ["imagenet"], 0.876, chance=0.07)
    text = notes_on([ours, other], 2)
    # What the run found for its explained queries, not the benchmark's 8.5 %.
    assert "Profile paper: a map of random numbers scores an RR of 7.0 % on these queries." in text
    assert "(split-half, Spearman-Brown; 1 at most): IN + SS (ours) 0.91, IN 0.88." in text


def test_reliability_that_is_not_known_is_not_mentioned(finished):
    text = notes_on([ranked_column(finished, "a", ["imagenet"], None, chance=None)], 2)
    assert "an RR of 8.5 % on these queries" in text
    assert "reliability" not in text


def test_older_runs_beside_explained_ones_are_passed_over(finished):
    old = finished("a", {"simsiam-hu-clip": {"relevance-rank": [0.1]}})
    new = ranked_column(finished, "b", ["imagenet"], 0.9)
    assert "1 at most): IN 0.90." in notes_on([old, new], 2)
    assert "reliability" not in notes_on([old], 2)
