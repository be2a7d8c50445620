from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from cbirbench import __version__
from cbirbench import environment as module
from cbirbench.environment import environment, git_state, hardware, versions
from cbirbench.plan import Plan, Request
from cbirbench.planning import build

pytestmark = pytest.mark.usefixtures("fake_plugins")


@pytest.fixture
def plan(install: Any) -> Plan:
    install("more-metrics", {"metric": {"purity-again": "cbirbench_fake:Purity"}}, version="0.4")
    return build(Request("blobs", ("brightness",), ("purity-again",), device="cpu"))


def test_versions_of_all_that_computes(plan: Plan) -> None:
    found = versions(plan)
    assert found["python"] == platform.python_version()
    assert found["cbirbench"] == __version__
    assert found["cbirbench-fake"] == "1.0"
    assert found["more-metrics"] == "0.4"
    for name in ("numpy", "torch", "scikit-image", "faiss-cpu"):
        assert found[name] == importlib.metadata.version(name)


def test_a_package_that_is_not_installed_is_left_out(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "a-package-that-is-not-there"))
    found = versions(plan)
    assert "numpy" in found
    assert "a-package-that-is-not-there" not in found


def test_the_hardware_names_neither_machine_nor_user(plan: Plan) -> None:
    found = hardware("cpu")
    assert found["device"] == "cpu"
    assert found["torch_threads"] == torch.get_num_threads()
    assert "gpu" not in found
    assert 0.1 < found["memory_gib"] < 1e5
    text = json.dumps(environment(plan))
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_the_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    assert hardware("cuda")["gpu"] == "NVIDIA A100"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "checkout" / "cbirbench"
    package.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "environment.py"))
    for name in [name for name in os.environ if name.startswith("GIT_")]:  # a hook's, of another checkout
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return package.parent


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_an_installed_package_has_no_commit(checkout: Path) -> None:
    assert git_state() is None


def test_a_checkout_has_a_commit_and_may_be_changed(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    assert git_state() is None  # no commit yet
    (checkout / "README.md").write_text("one")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "one")
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state() == {"commit": commit, "changed": False}
    (checkout / "README.md").write_text("two")
    assert git_state() == {"commit": commit, "changed": True}


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".git").mkdir()
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state() is None


def test_the_parts_of_the_environment(plan: Plan) -> None:
    assert set(environment(plan)) == {"versions", "hardware", "git"}
