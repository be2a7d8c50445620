"""Our benchmarks keep to the interface that third parties' are held to."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cbirbench.testing import BenchmarkConformance, made_slices

LPS = np.diag((-1.5, -1.5, 5.0, 1.0))


def write_scans(root: Path, images: str, masks: str, count: int) -> Path:
    """Scans of twelve slices, every second of which shows the organ."""
    for number in range(count):
        slices = made_slices(12, side=40, seed=number)
        for folder, arrays in ((images, [s.hu for s in slices]), (masks, [s.mask for s in slices])):
            path = root / folder / f"liver_{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.stack(arrays).transpose(2, 1, 0), LPS), path)
    return root


class TestPhantom(BenchmarkConformance):
    plugin = "phantom"
    options = {"size": "64", "gallery_volumes": "2", "query_volumes": "1", "slices_per_kind": "2"}
    scans = 1


@pytest.fixture(scope="class")
def own_scans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = write_scans(tmp_path_factory.mktemp("folder"), "images", "masks", 3)
    request.cls.options = {"data": str(root)}


@pytest.mark.usefixtures("own_scans")
class TestFolder(BenchmarkConformance):
    plugin = "folder"


@pytest.fixture(scope="class")
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = write_scans(tmp_path_factory.mktemp("msd") / "Task03_Liver", "imagesTr", "labelsTr", 3)
    request.cls.options = {"data": str(root), "train_volumes": "2", "test_volumes": "1"}


@pytest.mark.usefixtures("task")
class TestDecathlon(BenchmarkConformance):
    plugin = "decathlon"
