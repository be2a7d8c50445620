from __future__ import annotations

import pickle

import pytest

from cbirbench.errors import CbirbenchError, DataError, MissingError, PluginError, UsageError


@pytest.mark.parametrize(
    ("kind", "exit_code"), [(UsageError, 2), (DataError, 1), (MissingError, 1), (PluginError, 1)]
)
def test_each_kind_has_its_exit_code(kind: type[CbirbenchError], exit_code: int) -> None:
    error = kind("liver_3.nii.gz is truncated.", "Fetch it again.")
    assert isinstance(error, CbirbenchError)
    assert error.exit_code == exit_code
    assert (error.problem, error.remedy) == ("liver_3.nii.gz is truncated.", "Fetch it again.")
    assert str(error) == "liver_3.nii.gz is truncated. Fetch it again."


def test_without_a_remedy_nothing_trails() -> None:
    assert str(DataError("It is gone.")) == "It is gone."


def test_comes_back_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(DataError("No liver.", "Leave it out.")))
    assert type(error) is DataError
    assert (error.problem, error.remedy) == ("No liver.", "Leave it out.")
