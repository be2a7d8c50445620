from __future__ import annotations

from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbirbench.cases.spatial_coherence import Reach
from cbirbench.cases.studies import ScanFile, Study, open_study
from cbirbench.cases.study_orders import (
    agreement,
    distances_between,
    expert_picks,
    in_order,
    smoothed_order,
)
from cbirbench.errors import UsageError


def study(tmp_path: Path, slices: int = 6, spacing: float = 5.0, name: str = "old") -> Study:
    path = tmp_path / f"{name}.nii"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, slices), np.int16), np.diag((-1.0, -1.0, spacing, 1.0))), path)
    return open_study(ScanFile(path))


def test_the_nearest_first_and_equal_ones_by_number() -> None:
    order = in_order(np.array([2.0, 1.0, 3.0, 1.0]))
    assert order.numbers.tolist() == [1, 3, 0, 2]
    assert order.distances.tolist() == [1.0, 1.0, 2.0, 3.0]
    assert order.ranks.tolist() == [3, 1, 4, 2]


@pytest.mark.parametrize("kind", ["euclidean", "cosine"])
def test_distances_of_every_slice_to_every_slice(kind: str) -> None:
    generator = np.random.default_rng(0)
    new, old = (generator.normal(size=(n, 5)).astype(np.float32) for n in (4, 60))
    found = distances_between(new, old, kind)  # type: ignore[arg-type]
    for row, query in enumerate(new.astype(float)):
        for column, slice_ in enumerate(old.astype(float)):
            expected = np.linalg.norm(query - slice_)
            if kind == "cosine":
                expected = 1 - query @ slice_ / np.linalg.norm(query) / np.linalg.norm(slice_)
            assert found[row, column] == pytest.approx(expected, abs=1e-9)


def test_an_agreement_worked_by_hand() -> None:
    """Ranks: slice 4 is first, then 2, 0, 1, 3, 5. The expert chose 2, 4, 5 in that order."""
    order = in_order(np.array([3.0, 4.0, 2.0, 5.0, 1.0, 6.0]))
    found = agreement(order, [2, 4, 5], k=3)
    assert found.ranks == (2, 1, 6)
    assert found.overlap == pytest.approx(2 / 3)
    assert found.chance == pytest.approx(3 * 3 / 6 / 3)
    # Of the pairs (2, 4), (2, 5), (4, 5) the system turns the first round: (2 - 1) / 3.
    assert found.tau == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("k", "overlap", "chance"), [(1, 1.0, 0.5), (2, 1.0, 0.5), (4, 2 / 3, 2 / 3), (6, 1.0, 1.0)]
)
def test_one_can_be_reached_whatever_k(k: int, overlap: float, chance: float) -> None:
    order = in_order(np.arange(6.0))
    found = agreement(order, [0, 1, 5], k)
    assert found.overlap == pytest.approx(overlap) and found.chance == pytest.approx(chance)


def test_one_pick_has_no_order() -> None:
    found = agreement(in_order(np.arange(4.0)), [3], 1)
    assert np.isnan(found.tau) and (found.overlap, found.chance, found.ranks) == (0.0, 0.25, (4,))


@given(st.permutations(range(8)), st.integers(2, 8), st.integers(1, 8), st.randoms())
def test_agrees_with_counting_pairs(numbers: list[int], count: int, k: int, random: object) -> None:
    picks = list(range(8))
    random.shuffle(picks)  # type: ignore[attr-defined]
    picks = picks[:count]
    distances = np.empty(8)
    distances[numbers] = np.arange(8.0)
    found = agreement(in_order(distances), picks, k)
    rank = {number: place for place, number in enumerate(numbers, start=1)}
    signs = [1 if rank[a] < rank[b] else -1 for a, b in combinations(picks, 2)]
    assert found.tau == pytest.approx(sum(signs) / len(signs))
    assert found.overlap == pytest.approx(len(set(picks) & set(numbers[:k])) / min(k, count))


def test_chance_is_the_mean_over_random_orders() -> None:
    generator = np.random.default_rng(0)
    overlaps = [agreement(in_order(generator.random(9)), [0, 4, 8, 2], 3).overlap for _ in range(4000)]
    assert np.mean(overlaps) == pytest.approx(
        agreement(in_order(np.arange(9.0)), [0, 4, 8, 2], 3).chance, abs=0.02
    )


def test_smoothing_takes_the_query_s_own_neighbours(tmp_path: Path) -> None:
    """Of new slices 1 to 4 the query is 2; with a reach of one slice 4 does not count."""
    new, old = study(tmp_path, 6, 4.0, "new"), study(tmp_path, 3, 4.0)
    distances = np.array([[5.0, 9.0, 9.0], [3.0, 2.0, 9.0], [9.0, 9.0, 1.0], [0.0, 0.0, 0.0]])
    found = smoothed_order(distances, [1, 2, 3, 4], 2, new, old, Reach(1, in_slices=True))
    w = np.exp(-2.0)
    expected = [(3 + w * 9) / (1 + w), (2 + w * 5 + w * 1) / (1 + 2 * w), (9 + w * 9) / (1 + w)]
    assert found.numbers.tolist() == [1, 0, 2]
    np.testing.assert_allclose(found.distances, np.array(expected)[[1, 0, 2]])


def test_an_experts_picks_keep_their_order(tmp_path: Path) -> None:
    assert expert_picks(study(tmp_path), "4,2, 3") == [4, 2, 3]
    assert expert_picks(study(tmp_path), "5 0;1") == [5, 0, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--expert names no slice"),
        (" , ", "--expert names no slice"),
        ("6", "has slices 0 to 5, no slice for the expert's pick 6"),
        ("1,2,1", "names slice 1 twice"),
        ("1-3", "got '1-3'"),
        ("best", "got 'best'"),
        ("1" * 20, "got '1111"),
    ],
)
def test_any_other_pick_is_a_usage_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        expert_picks(study(tmp_path), text)
    assert says in str(caught.value)
