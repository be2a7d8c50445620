from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbirbench import __version__, keys, registry
from cbirbench.plan import Plan, Request
from cbirbench.planning import build
from cbirbench.query_sets import QuerySet
from cbirbench.slices import CTSlice, Slices

pytestmark = pytest.mark.usefixtures("fake_plugins")


def plan_of(*assignments: str, **changed: Any) -> Plan:
    # On some machines "auto" is bfloat16.
    given = ("relax.precision=float32", *assignments)
    request = Request("blobs", ("learned-offset",), ("coverage",), device="cpu", assignments=given)
    return build(dataclasses.replace(request, **changed))


def item_of(name: str = "a", mask: Any = "one", value: int = 0) -> CTSlice:
    hu = np.full((4, 4), value, np.int16)
    masks = {"one": np.eye(4, dtype=np.uint8), "empty": np.zeros((4, 4), np.uint8), None: None}
    return CTSlice(hu, masks[mask], name, "p", "s", "v", 0, 1)


GALLERY = Slices((item_of("a"), item_of("b", value=1)))


def untrained(plan: Plan) -> keys.ShapedBy:
    contender = plan.contenders[0]
    return keys.untrained(plan.device, contender, contender.make())


def all_keys(plan: Plan, **changed: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "slices": GALLERY,
        "item": GALLERY[0],
        "seed": 1,
        "batch_size": 8,
        "maps": {"a": "x"},
        "epoch": 3,
        "control": "random-map",
        "structures": {1: "organ"},
    }
    given |= changed
    shaped_by = untrained(plan)
    weights = keys.weights(shaped_by, given["slices"], given["seed"])
    trained = keys.trained(weights)
    metric, plugin = plan.metrics[0], plan.metric_plugins[0]
    ranked = build(dataclasses.replace(plan.request, metrics=("purity",)))

    def curve(metric: Any, plugin: Any) -> str:
        return keys.curve(
            plan, weights, given["epoch"], metric, plugin, QuerySet("blobs", given["slices"], given["slices"])
        )

    return {
        "curve": curve(ranked.metrics[0], ranked.metric_plugins[0]),
        "curve of maps": curve(metric, plugin),
        "weights": weights,
        "embeddings": keys.embeddings(trained, given["slices"], given["batch_size"]),
        "similarities": keys.similarities(plan.relax, trained, given["item"]),
        "map": keys.importance_map(plan.relax, trained, given["item"]),
        "control": keys.control_map(plan.relax, given["control"], given["item"]),
        "attention": keys.attention(given["maps"], given["slices"], given["structures"]),
        "scores": keys.explanation_scores(metric, plugin, given["maps"], given["slices"]),
    }


OF_A_TRAINING = {"weights", "embeddings", "similarities", "map", "curve", "curve of maps"}
OF_A_MAP = {"map", "control", "curve of maps"}


@pytest.mark.parametrize(
    ("change", "reaches"),
    [
        (lambda: all_keys(plan_of()), set()),
        (lambda: all_keys(plan_of(runs=7)), set()),
        (lambda: all_keys(plan_of(pixels=False, metrics=("coverage", "purity"))), set()),
        (lambda: all_keys(plan_of("learned.epochs=9")), OF_A_TRAINING),
        (lambda: all_keys(plan_of("learned.log_every=9")), set()),
        (lambda: all_keys(plan_of(eval_every=1, explain_every=1)), set()),
        (lambda: all_keys(plan_of(), epoch=4), {"curve", "curve of maps"}),
        (lambda: all_keys(plan_of("run.distance=cosine")), {"curve", "curve of maps"}),
        (lambda: all_keys(plan_of("mirroring.chance=1")), OF_A_TRAINING),
        (lambda: all_keys(plan_of(), seed=2), OF_A_TRAINING),
        (
            lambda: all_keys(plan_of(), slices=GALLERY[:1]),
            {"weights", "embeddings", "similarities", "map", "curve", "curve of maps", "scores", "attention"},
        ),
        (lambda: all_keys(plan_of(), item=GALLERY[1]), {"similarities", "map", "control"}),
        # Similarities to more masks are added to those to fewer, and serve every estimator.
        (lambda: all_keys(plan_of("relax.masks=9")), OF_A_MAP),
        (lambda: all_keys(plan_of("relax.until_reliable=.9")), OF_A_MAP),
        (lambda: all_keys(plan_of("relax.estimator=regression")), OF_A_MAP),
        (lambda: all_keys(plan_of("relax.uncertainty_filter=mean")), OF_A_MAP),
        (lambda: all_keys(plan_of("relax.grid=6")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.keep=.6")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.seed=1")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.shifts=cells")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.antithetic=yes")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.fill=.1")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.precision=bfloat16")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of("relax.batch_size=3")), {"similarities", *OF_A_MAP}),
        (lambda: all_keys(plan_of(), control="center-map"), {"control"}),
        (lambda: all_keys(plan_of(), structures={}), {"attention"}),
        (lambda: all_keys(plan_of(), batch_size=9), {"embeddings"}),
        (lambda: all_keys(plan_of(), maps={"a": "y"}), {"scores", "attention"}),
    ],
)
def test_a_change_reaches_what_it_shapes_and_nothing_else(
    change: Callable[[], dict[str, str]], reaches: set[str]
) -> None:
    before, after = all_keys(plan_of()), change()
    assert {name for name in before if before[name] != after[name]} == reaches
    assert len(set(after.values())) == len(after)


def test_the_extractors_source_version_device_and_name_shape_its_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of()
    contender = plan.contenders[0]
    extractor = contender.make()

    def shaped_by(device: str = "cpu", **changed: Any) -> str:
        other = dataclasses.replace(contender, plugin=dataclasses.replace(contender.plugin, **changed))
        return keys.weights(keys.untrained(device, other, extractor), GALLERY, 0)

    shapes = [
        shaped_by(),
        shaped_by(version="1.1"),
        shaped_by(distribution="a-fork"),
        shaped_by(name="other"),
    ]
    shapes.append(shaped_by("cuda"))
    monkeypatch.setattr(registry, "source_digest", lambda module: "changed")
    shapes.append(shaped_by())
    assert len(set(shapes)) == len(shapes)


def test_versions_are_those_of_what_the_distribution_requires(
    install, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install("needy", {})
    metadata = next(site.glob("*.dist-info")) / "METADATA"
    requirements = ["cbirbench", "rich>=13", "typer", "not-installed", 'pydantic; extra == "dev"']
    lines = [f"Requires-Dist: {requirement}\n" for requirement in requirements]
    metadata.write_text("".join(["Metadata-Version: 2.1\nName: needy\nVersion: 1.0\n", *lines]))
    found = keys.versions("needy")
    assert found["cbirbench"] == __version__
    assert found == {"cbirbench": __version__} | {
        name: importlib.metadata.version(name) for name in ("numpy", "torch", "rich", "typer")
    }
    assert keys.versions("not-there-at-all").keys() == {"cbirbench", "numpy", "torch"}

    before = untrained(plan_of())
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "torch" else real(name))
    keys.forget()
    assert untrained(plan_of()) != before


def test_the_source_of_plugins_that_a_plugin_builds_on_shapes_its_output(
    install, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = next(p for p in map(Path, sys.path) if (p / "cbirbench_fake-1.0.dist-info").exists())
    metadata = site / "cbirbench_fake-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: cbirbench-between\n")
    between = next(install("cbirbench-between", {}).glob("*.dist-info")) / "METADATA"
    between.write_text(between.read_text() + "Requires-Dist: cbirbench-below\nRequires-Dist: rich\n")
    below = install("cbirbench-below", {}, {"cbirbench_below": "RATE = 1\n"})
    assert keys.versions("cbirbench-fake")["rich"] == importlib.metadata.version("rich")
    before = untrained(plan_of())
    (below / "cbirbench_below.py").write_text("RATE = 2\n")
    registry.source_digest.cache_clear()
    assert untrained(plan_of()) != before
    (below / "cbirbench_below.py").write_text("RATE = 1\n")
    registry.source_digest.cache_clear()
    assert untrained(plan_of()) == before


def test_the_augmentations_that_an_extractor_asks_for_shape_its_output() -> None:
    plan = plan_of()
    contender = plan.contenders[0]
    assert [used.name for used in contender.augmentations] == ["mirroring"]
    newer = dataclasses.replace(contender.augmentations[0], version="1.1")
    other = dataclasses.replace(contender, augmentations=(newer,))
    assert keys.untrained(plan.device, other, contender.make()) != untrained(plan)
