from cbirbench.report.paper_notes import comparable, missing_rows, title
from cbirbench.report.paper_runs import merge
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
