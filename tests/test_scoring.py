from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cbirbench.errors import MissingError, PluginError
from cbirbench.explain.relax import RelaxOptions
from cbirbench.scoring import EXPLAINED_TOGETHER, _checked_values, _importance
from cbirbench.slices import CTSlice, Slices, square_batches


def a_slice(name: str, rows: int, columns: int) -> CTSlice:
    return CTSlice(np.zeros((rows, columns), np.int16), None, name, "p", "s", "v", 0, 1)


def test_explained_together_are_slices_of_one_size_each_once() -> None:
    items = [a_slice(f"a{i}", 4, 4) for i in range(19)] + [a_slice(f"b{i}", 6, 5) for i in range(3)]
    batches = square_batches(Slices(tuple(items)), EXPLAINED_TOGETHER)
    groups = [[items[position] for position in positions] for positions, _ in batches]
    assert [len(group) for group in groups] == [8, 8, 3, 3]
    assert all(len({item.side for item in group}) == 1 for group in groups)
    assert sorted(item.slice_id for group in groups for item in group) == sorted(s.slice_id for s in items)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), MissingError, r"gazer.*relax\.batch_size"),
        (ZeroDivisionError("division by zero"), PluginError, r"gazer failed on masked images: ZeroDivision"),
        (PluginError("embed returned NaN.", "Report it."), PluginError, r"gazer: embed returned NaN"),
    ],
)
def test_a_fault_under_masks_names_the_extractor(fault: Exception, error: type[Exception], says: str) -> None:
    class Faulty:
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            raise fault

    plan = SimpleNamespace(relax=RelaxOptions(masks=4, grid=2))
    contender = SimpleNamespace(name="gazer")
    with pytest.raises(error, match=says):
        _importance(contender, Faulty(), torch.rand(1, 1, 8, 8), plan, lambda done: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 1)), np.array([0.0, np.inf]), 1.0])
def test_a_metric_that_gives_something_else_is_refused(values: object) -> None:
    with pytest.raises(PluginError, match="odd"):
        _checked_values(SimpleNamespace(name="odd"), values, 2)  # type: ignore[arg-type]


def test_undefined_values_of_a_metric_are_kept() -> None:
    checked = _checked_values(SimpleNamespace(name="fine"), [0.5, float("nan")], 2)  # type: ignore[arg-type]
    assert checked[0] == 0.5 and np.isnan(checked[1])
