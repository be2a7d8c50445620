import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.duplicates import DuplicatePair, duplicates_by_hash
from cbirbench.leakage import (
    IRCADB_VOLUMES,
    MOST_LISTED,
    crossing_patients,
    known_overlaps,
    leakage_report,
    leakage_warnings,
)
from cbirbench.slices import CTSlice, Slices

LIVER = [f"liver_{n}" for n in range(100)]


def slices(prefix: str, patients) -> Slices:
    items = [
        CTSlice(
            hu=np.zeros((2, 2), np.int16),
            mask=None,
            slice_id=f"{prefix}{n}",
            patient_id=patient,
            study_id=patient,
            volume_id=patient,
            z_index=n,
            label=0,
        )
        for n, patient in enumerate(patients)
    ]
    return Slices(tuple(items))


def test_patients_on_both_sides_in_numeric_order():
    gallery = ["liver_10", "liver_2", "liver_2", "anna", "7", "12"]
    queries = ["liver_2", "12", "7", "liver_10", "liver_11"]
    assert crossing_patients(gallery, queries) == ["7", "12", "liver_2", "liver_10"]
    assert crossing_patients(iter(["a"]), iter(["A", "b"])) == []


@given(st.lists(st.text(max_size=4)), st.lists(st.text(max_size=4)))
def test_any_ids_can_be_compared(gallery, queries):
    found = crossing_patients(gallery, queries)
    assert sorted(found) == sorted(name for name in set(gallery) if name in queries)
    assert found == crossing_patients(reversed(queries), gallery)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("3D-IRCADb", "/data/x"),
        ("cohort", "/data/3Dircadb1"),
        ("cohort", Path("/data/IRCAD/patients.csv")),
        ("3D_IRCADb-01", "/x"),
        ("our-3dircad", "/x"),
        ("ircadb01", "/x"),
    ],
)
def test_3d_ircadb_beside_the_decathlon(name, path):
    (text,) = known_overlaps("decathlon", LIVER, [name], [path])
    assert repr(name) in text
    assert "28 to 44 and 46 to 48" in text
    assert "liver_28 to liver_44, liver_46 to liver_48" in text
    assert "Leave them out of the gallery or their patients out of the cohort" in text


def test_the_volumes_are_twenty():
    assert len(IRCADB_VOLUMES) == 20
    assert 45 not in IRCADB_VOLUMES and 27 not in IRCADB_VOLUMES and 49 not in IRCADB_VOLUMES


def test_only_volumes_that_are_here_are_named():
    (text,) = known_overlaps("decathlon", ["liver_48", "liver_3", "liver_29"], ["ircad"], ["/x"])
    assert "has liver_29, liver_48." in text
    (text,) = known_overlaps("decathlon", ["liver_0", "patient"], ["ircad"], ["/x"])
    assert "has none by its number, but files may be renumbered" in text


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("circadian", "/data/circadian"),
        ("splits", "/data/splits/elitist"),
        ("unn", "/data/decathlon/Task09_Spleen"),
        ("ward", "/home/x"),
        ("spleen", "/data/Task030"),
        ("", ""),
    ],
)
def test_other_cohorts_are_not_warned_of(name, path):
    assert known_overlaps("decathlon", LIVER, [name], [path]) == []


def test_what_the_benchmark_is_called_and_where_its_data_lie():
    cohort = (["IRCAD"], ["/x"])
    assert known_overlaps("phantom", LIVER, *cohort) == []
    assert known_overlaps("folder", LIVER, *cohort) == []
    assert len(known_overlaps("folder", LIVER, *cohort, data="/data/LiTS17/batch1")) == 1
    assert len(known_overlaps("folder", LIVER, *cohort, data=Path("/data/Task03_Liver"))) == 1


def test_the_other_way_round():
    (text,) = known_overlaps("folder", ["1", "2"], ["LiTS"], ["/x"], data="/data/3Dircadb1")
    assert "28 to 44 and 46 to 48" in text and "out of the cohort" in text


@pytest.mark.parametrize(
    ("benchmark", "cohort", "says"),
    [
        ("decathlon", "MICCAI-LITS2017", "the collection that"),
        ("decathlon", "Task03_Liver", "the collection that"),
        ("decathlon", "AbdomenCT-1K", "shares scans of 3D-IRCADb, LiTS with"),
        ("decathlon", "CT_ORG", "shares scans of 3D-IRCADb, LiTS with"),
        ("spleen", "AbdomenCT1K", "shares scans of MSD Spleen with"),
        ("pancreas", "AbdomenCT-1K", "shares scans of MSD Pancreas with"),
    ],
)
def test_collections_made_of_one_another(benchmark, cohort, says):
    (text,) = known_overlaps(benchmark, LIVER, [cohort], ["/x"])
    assert says in text and "Leave those scans out" in text


def test_collections_that_share_nothing():
    assert known_overlaps("spleen", [], ["3D-IRCADb", "LiTS", "CT-ORG"], ["/x", "/y", "/z"]) == []


def test_several_cohorts_each_get_a_text():
    texts = known_overlaps("decathlon", LIVER, ["a", "b", "c"], ["/ircad", "/own", "/lits"])
    assert [repr(name) in text for name, text in zip("ac", texts, strict=True)] == [True, True]
    with pytest.raises(ValueError, match="argument"):
        known_overlaps("decathlon", LIVER, ["a"], [])


def test_nothing_found_says_nothing():
    summary = leakage_report(slices("g", "ab"), slices("q", "cd"), by_hash=[], by_embedding={"hog": []})
    assert leakage_warnings(summary) == []
    assert summary["by_hash"]["pairs"] == summary["by_embedding"]["hog"]["pairs"] == 0
    assert summary["crossing_patients"] == summary["known_overlaps"] == []


def test_counts_and_sentences_by_hand():
    gallery, queries = slices("g", "aab"), slices("q", ["x", "x", "y", "a"])
    by_hash = [
        DuplicatePair("q0", "g0", "similar", 12.0),
        DuplicatePair("q0", "g2", "similar", 3.0),
        DuplicatePair("q1", "g1", "identical", 0.0),
    ]
    close = [DuplicatePair("q2", "g2", "close", 0.123456)]
    summary = leakage_report(
        gallery,
        queries,
        by_hash=by_hash,
        by_embedding={"imagenet": close, "gabor": None},
        overlaps=["Known."],
    )
    assert json.loads(json.dumps(summary)) == summary
    assert summary == {
        "gallery_slices": 3,
        "query_slices": 4,
        "crossing_patients": ["a"],
        "known_overlaps": ["Known."],
        "by_hash": {
            "queries": 2,
            "pairs": 3,
            "how": {"identical": 1, "similar": 2},
            "patients": 2,
            "listed_patients": [
                {"query": "x", "gallery": "a", "slices": 2},
                {"query": "x", "gallery": "b", "slices": 1},
            ],
            "listed": [
                {"query_id": "q1", "gallery_id": "g1", "how": "identical", "distance": 0.0},
                {"query_id": "q0", "gallery_id": "g2", "how": "similar", "distance": 3.0},
                {"query_id": "q0", "gallery_id": "g0", "how": "similar", "distance": 12.0},
            ],
        },
        "by_embedding": {
            "imagenet": {
                "judged": True,
                "queries": 1,
                "pairs": 1,
                "how": {"close": 1},
                "patients": 1,
                "listed_patients": [{"query": "y", "gallery": "b", "slices": 1}],
                "listed": [{"query_id": "q2", "gallery_id": "g2", "how": "close", "distance": 0.1235}],
            },
            "gabor": {"judged": False},
        },
    }
    crossing, known, copies, imagenet, gabor = leakage_warnings(summary)
    assert crossing.startswith("1 patient is in the gallery and among the queries as well: a.")
    assert known == "Known."
    assert copies.startswith(
        "2 of 4 query slices have a copy in the gallery under another patient (1 identical"
    )
    assert "x in a (2), x in b (1)." in copies
    assert imagenet.startswith("imagenet places 1 of 4 query slices") and "y in b (1)" in imagenet
    assert gabor.startswith("Copies could not be looked for by the embeddings of gabor")


def test_many_are_counted_and_few_are_listed():
    patients = [f"p{n}" for n in range(50)]
    gallery, queries = slices("g", patients), slices("q", [f"x{n}" for n in range(50)])
    pairs = [DuplicatePair(f"q{n}", f"g{n}", "similar", float(n % 7)) for n in range(50)]
    summary = leakage_report(gallery, queries, by_hash=pairs)
    assert summary["by_hash"]["pairs"] == summary["by_hash"]["patients"] == 50
    assert len(summary["by_hash"]["listed"]) == len(summary["by_hash"]["listed_patients"]) == MOST_LISTED
    assert [entry["distance"] for entry in summary["by_hash"]["listed"][:9]] == [0.0] * 8 + [1.0]
    (text,) = leakage_warnings(summary)
    assert "and 47 more pairs of patients" in text
    both = leakage_report(gallery, slices("q", patients), by_hash=[])
    assert f"{patients[19]} and 30 more." in leakage_warnings(both)[0]


def test_slices_of_two_cohorts_may_share_their_ids():
    gallery, queries = slices("s", "ab"), slices("s", "xy")
    summary = leakage_report(gallery, queries, by_hash=[DuplicatePair("s0", "s1", "similar", 1.0)])
    assert summary["by_hash"]["listed_patients"] == [{"query": "x", "gallery": "b", "slices": 1}]


def test_what_the_search_finds_goes_into_the_report():
    hu = np.random.default_rng(0).integers(-200, 300, (64, 64)).astype(np.int16)
    gallery, queries = (
        Slices((CTSlice(hu, None, f"{name}_z0", name, name, name, 0, 0),)) for name in ("a", "x")
    )
    summary = leakage_report(gallery, queries, by_hash=duplicates_by_hash(gallery, queries))
    assert summary["by_hash"]["how"] == {"identical": 1}
    assert "1 of 1 query slices" in leakage_warnings(summary)[0]
