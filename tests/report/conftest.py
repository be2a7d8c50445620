"""A small finished run: three extractors, three metrics, twelve patients of two queries each."""

import math

import pandas as pd
import pytest

from cbirbench.report.paper_runs import FinishedRun

PATIENTS = 12


def value(extractor, run, metric, query):
    """Ours misses one query in run 0, hog misses half, gabor all; odd queries lack the organ."""
    if metric == "relevance-rank":
        if query % 2:
            return math.nan
        return {"simsiam-hu-clip": 0.5, "hog": math.nan if query == 0 else 0.25, "gabor": 0.25}[extractor]
    if extractor == "simsiam-hu-clip":
        return 0.0 if (run, query) == (0, 3) else 1.0
    return float(extractor == "hog" and query % 2)


@pytest.fixture
def scores():
    runs = {"simsiam-hu-clip": 2, "hog": 1, "gabor": 1}
    return pd.DataFrame(
        [
            {
                "benchmark": "phantom",
                "extractor": extractor,
                "run": run,
                "metric": metric,
                "query_id": f"q{query:02}",
                "patient_id": f"p{query // 2}",
                "value": value(extractor, run, metric, query),
            }
            for extractor, count in runs.items()
            for run in range(count)
            for metric in ("map@5", "knn-accuracy@5", "relevance-rank")
            for query in range(2 * PATIENTS)
        ]
    )


@pytest.fixture
def summary():
    def extractor(name, aliases, trained, runs):
        return {
            "name": name,
            "aliases": aliases,
            "trained": trained,
            "floor": False,
            "runs": runs,
            "distribution": f"cbirbench-{name}",
            "version": "0.1",
            "options": {"size": 224, "window": [-200.0, 300.0]},
        }

    return {
        "benchmark": {
            "name": "phantom",
            "synthetic": True,
            "gallery_slices": 48,
            "query_slices": 24,
            "gallery_volumes": 24,
            "query_volumes": 12,
            "data_fingerprint": "0123abcd",
            "mean_query_mask_fraction": 0.085,
        },
        "profile": "paper",
        "profile_title": "paper (changed: epochs)",
        "departures": [
            {
                "plugin": "simsiam-hu-clip",
                "option": "epochs",
                "profile_value": 250,
                "value": 5,
                "set_by": "benchmark",
            }
        ],
        "extractors": [
            extractor("simsiam-hu-clip", ["ours"], True, 2),
            extractor("hog", [], False, 1),
            extractor("gabor", [], False, 1),
        ],
        "metrics": ["map@5", "knn-accuracy@5", "relevance-rank"],
        "seed": 0,
        "distance": "euclidean",
        "command": "cbirbench run phantom --extractors ours,hog,gabor",
        "versions": {"torch": "2.9"},
        "hardware": {"cpu": "two cores"},
        "started": "2024-05-01T10:00:00+00:00",
        "finished": "2024-05-01T10:05:00+00:00",
        "git": None,
    }


@pytest.fixture
def explained(summary):
    """The same run with what later versions say of its explanations; hog's maps are poor, gabor has none."""

    def maps(mean, lowest, **more):
        return {
            "explained": 24,
            "masks": {"mean": 2750.4, "lowest": 500, "highest": 3000},
            "reliability": {"mean": mean, "lowest": lowest, "undefined": 3},
            "problems": {},
            "zero_masks": 0,
            "attention": [tissue("bone", False, 0.05, 0.1, 0.2), tissue("liver", True, 0.08, 0.12, 0.16)],
            **more,
        }

    def tissue(name, target, area, importance, top_tenth):
        shares = {"area": area, "importance": importance, "top_tenth": top_tenth}
        return {"tissue": name, "target": target, **shares}

    undefined = {"mean": None, "lowest": None, "undefined": 14}
    without = {"problems": {"the whole image embeds to zero": 12}, "reliability": undefined, "attention": []}
    return {
        **summary,
        "explanations": {
            "chance": 0.08,
            "extractors": {
                "simsiam-hu-clip": maps(0.93, 0.85),
                "hog": maps(0.6, 0.2, zero_masks=1, problems={"NaN": 1, "no order": 2}),
                "gabor": maps(None, None, **without),
            },
            "controls": {
                "random-map": {"relevance-rank": {"mean": 0.076, "defined": 12}},
                "center-map": {"relevance-rank": {"mean": 0.25, "defined": 12}},
            },
        },
        "relax": {"masks": 3000, "grid": 7, "estimator": "ratio", "until_reliable": None},
    }


@pytest.fixture
def pointing(explained, scores):
    """The explained run with the pointing game in place of the relevance rank: summary and scores."""
    explained["metrics"][2] = "pointing-game"
    for control in explained["explanations"]["controls"].values():
        control["pointing-game"] = control.pop("relevance-rank")
    return explained, scores.replace({"metric": {"relevance-rank": "pointing-game"}})


@pytest.fixture
def training():
    """Run 0 went well; run 1's embeddings collapsed and its loss rose."""
    return pd.DataFrame(
        [
            ("simsiam-hu-clip", 0, 0, -0.25, 0.04, 512),
            ("simsiam-hu-clip", 0, 1, -0.75, 0.03, 512),
            ("simsiam-hu-clip", 1, 1, -0.5, 0.01, 512),
            ("simsiam-hu-clip", 1, 0, -0.625, 0.04, 512),
        ],
        columns=["extractor", "run", "epoch", "loss", "embedding_std", "embedding_dim"],
    )


@pytest.fixture
def finished():
    """Makes a finished run for the paper's tables; see `_finished`."""
    return _finished


def _finished(folder, levels, *, profile="paper", benchmark="phantom", data="f" * 64, departures=(), **more):
    """A run whose scores are known: ``levels[extractor][metric]`` is one mean a run.

    Twelve patients with one query each score a little above and below a run's level, by offsets that
    cancel, the same for all runs and extractors.
    """
    rows = [
        {
            "benchmark": benchmark,
            "extractor": extractor,
            "run": run,
            "metric": metric,
            "query_id": f"q{patient:02}",
            "patient_id": f"p{patient:02}",
            "value": level + 0.001 * (patient - (PATIENTS - 1) / 2),
        }
        for extractor, metrics in levels.items()
        for metric, run_levels in metrics.items()
        for run, level in enumerate(run_levels)
        for patient in range(PATIENTS)
    ]
    simsiam = {
        "backbone": "resnet50.tv_in1k",
        "weights": "imagenet",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "learning_rate": 0.05,
        "batch_size": 32,
        "epochs": 250,
    }
    summary = {
        "benchmark": {
            "name": benchmark,
            "synthetic": benchmark == "phantom",
            "data_fingerprint": data,
            "mean_query_mask_fraction": 0.085,
        },
        "profile": profile,
        "profile_title": profile,
        "departures": [
            {"plugin": plugin, "option": option, "profile_value": usual, "value": value, "set_by": "user"}
            for plugin, option, usual, value in departures
        ],
        "extractors": [
            {"name": name, "aliases": [], "trained": "simsiam" in name, "options": dict(simsiam)}
            for name in levels
        ],
        "metrics": list(dict.fromkeys(metric for metrics in levels.values() for metric in metrics)),
        "seed": 0,
        "command": f"cbirbench run {benchmark}",
    }
    run = {"parameters": {}, **more}
    return FinishedRun(folder, summary, pd.DataFrame(rows), **run)
