from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from quiet import Quiet
from typer.testing import CliRunner

from cbirbench import curves, keys
from cbirbench.cli import app
from cbirbench.curves import Curves
from cbirbench.evaluation import run_once
from cbirbench.plan import Plan, Request, run_seed
from cbirbench.planning import build
from cbirbench.query_sets import own_queries
from cbirbench.slices import Slices
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")


def plan_of(eval_every: int | None, explain_every: int | None, *more: str) -> Plan:
    return build(
        Request(
            "blobs",
            ("learned-offset",),
            ("purity", "coverage"),
            runs=1,
            eval_every=eval_every,
            explain_every=explain_every,
            explain_queries=(),
            device="cpu",
            assignments=("learned.epochs=6", "relax.masks=20", "purity.k=1", *more),
        )
    )


def slices_of(plan: Plan) -> tuple[Slices, Slices]:
    items: dict[str, list[Any]] = {"gallery": [], "query": []}
    for source in plan.sources:
        items[source.split] += plan.benchmark.read(source)
    return Slices(tuple(items["gallery"])), Slices(tuple(items["query"]))


def outcome(plan: Plan, store: Store, progress: Quiet | None = None) -> Any:
    out = store.folder.parent / "out"
    sets = [own_queries(plan, *slices_of(plan))]
    return run_once(plan, plan.contenders[0], 0, sets, out, store, progress or Quiet())[0]


def watcher(plan: Plan, store: Store) -> Curves:
    gallery, queries = slices_of(plan)
    contender = plan.contenders[0]
    extractor: Any = contender.make()
    key = keys.weights(keys.untrained(plan.device, contender, extractor), gallery, run_seed(0, 0))
    sets = [own_queries(plan, gallery, queries)]
    return Curves(plan, contender, extractor, key, sets, store, Quiet())


def test_each_metric_has_a_stride_of_its_own_and_the_last_epoch_is_the_result(store: Store) -> None:
    found = outcome(plan_of(2, 3), store)
    points = [(row["epoch"], row["metric"]) for row in found.curve]
    purity, coverage = "purity@1", "coverage"
    assert points == [
        (0, purity),
        (0, coverage),
        (2, purity),
        (3, coverage),
        (4, purity),
        (6, purity),
        (6, coverage),
    ]
    last = {row["metric"]: row for row in found.curve if row["epoch"] == 6}
    for name, values in found.values.items():
        assert last[name]["value"] == pytest.approx(np.nanmean(values), rel=1e-12)
        assert last[name]["defined"] == np.isfinite(values).sum()


def test_a_point_is_what_a_training_that_ends_there_scores(store: Store, tmp_path: Path) -> None:
    """The fake extractor's offset after 3 of 6 epochs is half of what it has after the last."""
    found = outcome(plan_of(3, 3), store)
    extractor: Any = plan_of(3, 3).contenders[0].make()
    plan = plan_of(3, 3)
    gallery, queries = slices_of(plan)
    contender = plan.contenders[0]
    extractor.offset = extractor.offset + run_seed(0, 0) % 97 / 97 * 3 / 6
    sets = [own_queries(plan, gallery, queries)]
    own = Curves(plan, contender, extractor, "other", sets, Store(tmp_path / "own"), Quiet())
    own.look(3)
    expected = {row["metric"]: row["value"] for row in own.rows({}) if row["epoch"] == 3}
    assert {row["metric"]: row["value"] for row in found.curve if row["epoch"] == 3} == expected


def test_without_strides_nothing_is_watched(store: Store) -> None:
    plan = plan_of(None, None)
    assert watcher(plan, store).ahead == []
    assert not watcher(plan, store).wants(0)
    assert outcome(plan, store).curve == []


def test_what_was_seen_is_kept_and_not_looked_at_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(2, 4)
    assert watcher(plan, store).ahead == [(0, True), (2, False), (4, True)]
    first = outcome(plan, store)
    assert watcher(plan, store).ahead == []
    monkeypatch.setattr(Curves, "look", lambda self, epoch: pytest.fail("looked again"))
    assert outcome(plan, store).curve == first.curve


def test_a_training_without_its_curve_is_made_once_more_and_says_so(store: Store) -> None:
    plain = outcome(plan_of(None, None), store)
    progress = Quiet()
    watched = outcome(plan_of(3, None), store, progress)
    assert any("once more, for its curves" in note for note in progress.notes)
    for name, values in plain.values.items():
        np.testing.assert_array_equal(watched.values[name], values)
    assert [row["epoch"] for row in watched.curve] == [0, 3, 6]


def test_a_damaged_point_is_looked_at_again(store: Store) -> None:
    plan = plan_of(3, None)
    before = outcome(plan, store)
    for path in (store.folder / "scores").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    assert outcome(plan, store).curve == before.curve


def test_undefined_values_are_left_out_and_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = curves.scored

    def half_undefined(metric: Any, found: Any) -> Any:
        values = real(metric, found)
        return np.where(np.arange(len(values)) % 2, np.nan, 0.25)

    monkeypatch.setattr(curves, "scored", half_undefined)
    row = outcome(plan_of(6, None), store).curve[0]
    assert (row["value"], row["defined"]) == (0.25, 2)


def test_the_command_writes_the_table_the_figure_and_the_section(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [
        "run",
        "blobs",
        "--extractors",
        "learned-offset,brightness",
        "--metrics",
        "purity@2,coverage",
    ]
    settings = ["--set", "learned.epochs=4", "--set", "relax.masks=20", "--runs", "2", "--device", "cpu"]
    settings += ["--explain-queries", "none"]
    result = CliRunner().invoke(app, [*arguments, *settings, "--eval-every", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(out / "curves.parquet")
    assert list(table.columns) == ["cohort", "extractor", "run", "epoch", "metric", "value", "defined"]
    assert sorted(set(table["epoch"])) == [0, 2, 4]
    assert set(table["extractor"]) == {"learned-offset"}
    assert (out / "figures/curves.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "report.md").read_text()
    assert "](figures/curves.png)" in text
    assert "pick no checkpoint" in text
    (out / "figures/curves.png").unlink()
    assert CliRunner().invoke(app, ["report", str(out)]).exit_code == 0
    assert (out / "figures/curves.png").is_file()


@pytest.mark.parametrize(
    ("extractors", "metrics", "flag", "note"),
    [
        ("brightness", "purity@2", "--eval-every", "no extractor that trains"),
        ("learned-offset", "purity@2", "--explain-every", "no metric on explanations"),
        ("learned-offset", "coverage", "--eval-every", "no metric but those on explanations"),
    ],
)
def test_a_curve_with_nothing_to_show_is_pointed_out(
    tmp_path: Path, extractors: str, metrics: str, flag: str, note: str
) -> None:
    out = str(tmp_path / "out")
    arguments = ["run", "blobs", "--extractors", extractors, "--metrics", metrics, flag, "1", "--out", out]
    settings = ["--set", "relax.masks=20", "--explain-queries", "none", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, *settings])
    assert result.exit_code == 0, result.output
    assert f"{flag} 1 has no effect: this run has {note}." in result.output
