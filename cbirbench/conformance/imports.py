"""Checks of what importing a plugin's module does, in a fresh Python."""

from __future__ import annotations

from typing import Any

from cbirbench.conformance import fresh_process
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Fault, demand

HEAVY = frozenset(
    {
        "SimpleITK",
        "accelerate",
        "cv2",
        "datasets",
        "faiss",
        "huggingface_hub",
        "jax",
        "keras",
        "lightly",
        "lightning",
        "matplotlib",
        "monai",
        "nibabel",
        "numba",
        "pandas",
        "plotly",
        "pyarrow",
        "pytorch_lightning",
        "quantus",
        "radiomics",
        "scipy",
        "seaborn",
        "skimage",
        "sklearn",
        "tensorflow",
        "timm",
        "torch",
        "torchaudio",
        "torchio",
        "torchvision",
        "transformers",
    }
)
"""Packages that a plugin imports where it needs them, not at the top of its module.

Naming a plugin's options, in `cbirbench plugins show` and in the checks before a run, imports its module:
with one of these at its top each of these commands takes a quarter of a second to several seconds longer, for
a plugin that the run may not even use. numpy and pydantic are not here: cbirbench has them loaded by then."""

ALLOWED = {"extractor": {"torch"}, "augmentation": {"torch"}, "metric": set[str](), "benchmark": set[str]()}
"""What of them a kind may import at its top: extractors and augmentations are written in torch. Metrics and
benchmarks are not, and the processes that read a benchmark's scans import its module anew, each of them."""


def _imported(subject: Subject) -> dict[str, Any]:
    """What a fresh Python finds when it imports the module.

    Raises:
        Beside: It cannot be imported there, which the check `light_import` tells of.
    """
    try:
        return subject.once("import", lambda: _import(subject))
    except Fault as fault:
        raise Beside("It cannot be imported in a fresh Python: see light-import.") from fault


def _import(subject: Subject) -> dict[str, Any]:
    module = subject.plugin.value.partition(":")[0]
    try:
        found = fresh_process.imported(module)
    except (ChildProcessError, TimeoutError) as error:
        raise Fault(
            f"A fresh Python that imports {module} does not come back: {error}.",
            "Importing a module must only define things.",
        ) from error
    demand(
        not found["failure"] or bool(found["tried"]),
        f"In a fresh Python importing {module} raised {found['failure']}.",
        "It must import by itself, whatever was imported before.",
    )
    return found


def light_import(subject: Subject) -> str:
    """Importing its module loads no heavy package."""
    found = subject.once("import", lambda: _import(subject))
    heavy = sorted(set(found["loaded"]) & (HEAVY - ALLOWED[subject.plugin.kind]))
    demand(
        not heavy,
        f"Importing its module loads {', '.join(heavy)} ({found['seconds']:.1f} s).",
        "Import them inside the functions that need them, or in a module that these import.",
    )
    return f"no heavy package; {found['seconds']:.1f} s"


def offline_import(subject: Subject) -> str:
    """Importing its module asks nothing of the network."""
    tried = _imported(subject)["tried"]
    demand(
        not tried,
        f"Importing its module tried to reach the network, {len(tried)} times: {tried[0] if tried else ''}.",
        "Fetch what is needed when the plugin is made, or say in an error how to get it.",
    )
    return "no network"


def quiet_import(subject: Subject) -> str:
    """Importing its module leaves random generators and settings of torch and numpy as they were."""
    changed = _imported(subject)["changed"]
    demand(
        not changed,
        f"Importing its module changes {' and '.join(changed)}.",
        "Other plugins run in the same process: set nothing at the top of a module, and draw nothing there.",
    )
    return "random generators and settings as before"


CHECKS = (light_import, offline_import, quiet_import)
