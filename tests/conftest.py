"""What several test files share: an own cache for each test, and plugin distributions made on the spot."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from cbirbench import registry
from cbirbench.store import Store

# Set before torch is imported: on arrays this small, threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault. The inputs tried are the same in every run, so a red one tells of the change;
# `pytest --hypothesis-profile search` looks for others.
for _profile, _same in (("same", True), ("search", False)):
    settings.register_profile(
        _profile, settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=_same
    )
settings.load_profile("same")

# What test files share besides fixtures: a test folder is no package.
sys.path.insert(0, str(Path(__file__).parent / "doubles"))

FAKE_PLUGIN = Path(__file__).parent / "fake_plugin"


class Install(Protocol):
    """Puts a distribution with entry points, and maybe modules, where Python finds it."""

    def __call__(
        self,
        distribution: str,
        entries: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> Path: ...


LONG = ("test_run_phantom", "test_cli", "test_training", "test_cohort_runs", "test_explained_retrieval")
"""Files that take longest come first: if one came last, the other process would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """What is imported and collected stays: to look through it at every collection of garbage takes long."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else extension modules report at the end what they take for leaks


@pytest.fixture(scope="session")
def dicom() -> Any:
    """`dicom_making.DicomMaking`, for tests that make DICOM files."""
    from dicom_making import DicomMaking

    return DicomMaking


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(autouse=True)
def own_cache_and_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBIRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CBIRBENCH_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / "home" / name))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs distributions for one test, as pip would: a .dist-info folder beside the modules.

    `entries` maps a kind (``extractor``) to names and values, `modules` a module's name to its source.
    """
    from cbirbench import keys

    before = set(sys.modules)

    def installed(
        distribution: str,
        entries: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> Path:
        site = tmp_path / "site" / distribution
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = []
        for kind, points in entries.items():
            lines += [f"[{registry.GROUPS[kind]}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, source in (modules or {}).items():
            (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        registry.forget()
        keys.forget()
        return site

    yield installed
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", None)):
            del sys.modules[module]
    monkeypatch.undo()
    importlib.invalidate_caches()
    registry.forget()
    registry.source_digest.cache_clear()
    keys.forget()


@pytest.fixture
def fake_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution `cbirbench-fake`, one small plugin of every kind, importable in workers as well."""
    monkeypatch.syspath_prepend(FAKE_PLUGIN)
    roots = [str(FAKE_PLUGIN), str(Path(registry.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")]))
    install(
        "cbirbench-fake",
        {
            "benchmark": {
                "blobs": "cbirbench_fake_blobs:Blobs",
                "archived-blobs": "cbirbench_fake_blobs:ArchivedBlobs",
            },
            "extractor": {
                "brightness-mean": "cbirbench_fake:BrightnessMean",
                "brightness": "cbirbench_fake:BrightnessMean",
                "learned-offset": "cbirbench_fake:LearnedOffset",
            },
            "augmentation": {"mirroring": "cbirbench_fake:Mirroring"},
            "metric": {"purity": "cbirbench_fake:Purity", "coverage": "cbirbench_fake:Coverage"},
        },
    )
