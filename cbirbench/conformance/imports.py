"""Checks of what importing a plugin's module does, in a fresh Python."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cbirbench.conformance.fresh_process import ask
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Fault, demand

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


def fresh(subject: Subject) -> dict[str, Any]:
    """What a fresh Python finds when it imports the module, and an extractor's fingerprint there.

    Raises:
        Fault: It cannot be imported there.
    """
    module = subject.plugin.value.partition(":")[0]
    make = None
    if subject.plugin.kind == "extractor":
        make = {
            "plugin": asdict(subject.plugin),
            "options": subject.options.model_dump(mode="json"),
            "assignments": [str(one) for one in subject.assignments],
        }
    try:
        found = ask(module, make)
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
    found = fresh(subject)
    heavy = sorted(set(found["loaded"]) & (HEAVY - ALLOWED[subject.plugin.kind]))
    demand(
        not heavy,
        f"Importing its module loads {', '.join(heavy)} ({found['seconds']:.1f} s).",
        "Import them inside the functions that need them, or in a module that these import.",
    )
    return f"no heavy package; {found['seconds']:.1f} s"


def offline_import(subject: Subject) -> str:
    """Importing its module asks nothing of the network."""
    tried = fresh(subject)["tried"]
    demand(
        not tried,
        f"Importing its module tried to reach the network, {len(tried)} times: {tried[0] if tried else ''}.",
        "Fetch what is needed when the plugin is made, or say in an error how to get it.",
    )
    return "no network"


CHECKS = (light_import, offline_import)
