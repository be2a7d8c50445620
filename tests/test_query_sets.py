from __future__ import annotations

import numpy as np
import pytest

from cbirbench.query_sets import QuerySet, named_after
from cbirbench.slices import CTSlice, Slices


def a_slice(slice_id: str, patient: str, mask: str = "organ") -> CTSlice:
    pixels = np.zeros((2, 3), np.uint8)
    pixels[0, 0] = mask == "organ"
    return CTSlice(
        hu=np.zeros((2, 3), np.int16),
        mask=None if mask == "none" else pixels,
        slice_id=slice_id,
        patient_id=patient,
        study_id=patient,
        volume_id=f"scan-{patient}",
        z_index=0,
        label=int(mask == "organ"),
    )


COHORT = Slices((a_slice("a", "p"), a_slice("b", "q"), a_slice("c", "p"), a_slice("d", "r")))
GALLERY = Slices(tuple(a_slice(f"g{place}", "other") for place in range(3)))


def test_external_queries_may_retrieve_the_whole_gallery() -> None:
    one = QuerySet("clinic", GALLERY, COHORT, external=True)
    assert one.parts == [([0, 1, 2, 3], [0, 1, 2])]
    assert one.smallest_gallery == 3


def test_a_cohort_that_is_its_own_gallery_leaves_out_the_querys_patient() -> None:
    one = QuerySet("clinic", COHORT, COHORT, external=True, among_themselves=True)
    assert one.parts == [([0, 2], [1, 3]), ([1], [0, 2, 3]), ([3], [0, 1, 2])]
    assert one.smallest_gallery == 2


def test_queries_with_the_organ_in_their_mask_are_explained() -> None:
    queries = Slices((a_slice("a", "p"), a_slice("b", "p", "empty"), a_slice("c", "p", "none")))
    one = QuerySet("clinic", GALLERY, queries)
    assert [item.slice_id for item in one.explainable] == ["a"]
    assert one.masked == 2


def test_ids_say_the_cohort_and_patients_stay_who_they_are() -> None:
    named = named_after("unn", COHORT)
    assert named.ids == ["unn/a", "unn/b", "unn/c", "unn/d"]
    assert [item.patient_id for item in named] == ["p", "q", "p", "r"]
    assert {item.volume_id for item in named} == {"unn/scan-p", "unn/scan-q", "unn/scan-r"}
    np.testing.assert_array_equal(named[0].hu, COHORT[0].hu)


def test_a_lone_patient_has_no_gallery_of_its_own() -> None:
    alone = Slices((a_slice("a", "p"), a_slice("b", "p")))
    assert QuerySet("clinic", alone, alone, among_themselves=True).smallest_gallery == 0


@pytest.mark.parametrize("among_themselves", [False, True])
def test_every_query_is_in_one_part(among_themselves: bool) -> None:
    one = QuerySet("clinic", COHORT, COHORT, among_themselves=among_themselves)
    assert sorted(place for asked, _ in one.parts for place in asked) == [0, 1, 2, 3]
