import math

import pytest
import torch
from cbirbench_simsiam.collapse import RANKED, Spread, collapsed
from hypothesis import given, settings
from hypothesis import strategies as st


def spread_of(*batches: torch.Tensor) -> Spread:
    spread = Spread()
    for batch in batches:
        spread.add(batch)
    return spread


def drawn(count: int, dimension: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def test_deviations_are_those_of_unit_vectors() -> None:
    vectors = drawn(30, 8) + 1
    spread = spread_of(vectors[:13], vectors[13:])
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    assert spread.deviation() == pytest.approx(float(unit.std(dim=0, correction=0).mean()), rel=1e-6)
    assert spread_of(torch.ones(5, 8)).deviation() == pytest.approx(0, abs=1e-7)


def test_vectors_along_k_axes_both_ways_have_effective_rank_k() -> None:
    for used in (1, 3, 8):
        axes = torch.eye(8)[:used]
        assert spread_of(axes, -axes).effective_rank() == pytest.approx(used, rel=1e-9)


def test_one_point_has_effective_rank_0_and_a_line_1() -> None:
    assert spread_of(torch.ones(5, 8)).effective_rank() == 0
    two_ends = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    assert spread_of(two_ends.repeat(4, 1)).effective_rank() == pytest.approx(1, rel=1e-6)


@given(st.integers(2, 12), st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_effective_rank_is_that_of_the_singular_values(dimension: int, count: int, seed: int) -> None:
    vectors = drawn(count, dimension, seed)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    singular = torch.linalg.svdvals(unit - unit.mean(0))
    shares = (singular / singular.sum())[singular > 1e-9]
    expected = math.exp(-float((shares * shares.log()).sum()))
    assert spread_of(vectors).effective_rank() == pytest.approx(expected, rel=1e-6)


def test_the_rank_is_that_of_the_last_vectors() -> None:
    first, last = torch.eye(16).repeat(10, 1), drawn(RANKED, 16, seed=3)
    assert spread_of(first, *last.split(100)).effective_rank() == spread_of(last).effective_rank()


def test_collapse_is_little_deviation_or_a_line() -> None:
    assert collapsed(0.29 / 10, 100, rank=50)
    assert collapsed(0.9 / 10, 100, rank=1.9)
    assert not collapsed(0.31 / 10, 100, rank=2.1)
