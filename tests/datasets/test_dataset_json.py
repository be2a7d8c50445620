from __future__ import annotations

import json
from pathlib import Path

import pytest

from cbirbench.datasets.dataset_json import says_synthetic
from cbirbench.errors import DataError


@pytest.mark.parametrize(
    ("description", "synthetic"),
    [
        ("Synthetic abdominal CT drawn by cbirbench; no patient was scanned", True),
        ("Liver and cancer", False),
    ],
)
def test_what_a_program_made_is_said_in_the_description(
    tmp_path: Path, description: str, synthetic: bool
) -> None:
    path = tmp_path / "dataset.json"
    assert not says_synthetic(path)
    path.write_text(json.dumps({"description": description}))
    assert says_synthetic(path) is synthetic


def test_a_damaged_description_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text("[]")
    with pytest.raises(DataError, match=r"dataset\.json is no Decathlon dataset\.json"):
        says_synthetic(path)
