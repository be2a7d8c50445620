"""With what a run was made: versions, hardware, the state of the source."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from cbirbench import __version__
from cbirbench.plan import Plan

PACKAGES = (
    "faiss-cpu",
    "lightly",
    "nibabel",
    "numpy",
    "pytorch-lightning",
    "quantus",
    "scikit-image",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)


def environment(plan: Plan) -> dict[str, Any]:
    """Versions, hardware and git state, for summary.json."""
    return {"versions": versions(plan), "hardware": hardware(plan.device), "git": git_state()}


def versions(plan: Plan) -> dict[str, str]:
    """Versions of Python, of cbirbench, of every plugin's distribution and of what they compute with."""
    found = {"python": platform.python_version(), "cbirbench": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    contestants = [contender.plugin for contender in plan.contenders]
    for plugin in [plan.benchmark_plugin, *plan.metric_plugins, *contestants]:
        found[plugin.distribution] = plugin.version
    return found


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, memory and GPU; nothing that names the machine or its user."""
    import torch

    found: dict[str, Any] = {
        "device": device,
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf"):
        found["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of cbirbench's source and whether it was changed; None where it was installed from a package."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]  # fixed words: nothing of the user's goes in
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
