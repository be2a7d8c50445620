from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from quiet import Quiet

from cbirbench import keys, registry
from cbirbench.cases.reopening import open_run
from cbirbench.errors import MissingError, UsageError
from cbirbench.plan import Plan, Request
from cbirbench.planning import build
from cbirbench.report.scoreboard import scoreboard
from cbirbench.results import read_table
from cbirbench.runner import execute
from cbirbench.settings import Departure
from cbirbench.store import Store

pytestmark = pytest.mark.usefixtures("fake_plugins")

BOTH = Request(
    benchmark="blobs",
    extractors=("brightness", "narrow=brightness"),
    metrics=("purity@1",),
    device="cpu",
    assignments=("narrow.window=0,50",),
)


def plan_of(*extractors: str, assignments: tuple[str, ...] = (), **changed: Any) -> Plan:
    return build(dataclasses.replace(BOTH, extractors=extractors, assignments=assignments, **changed))


def windows(plan: Plan) -> list[tuple[float, float]]:
    return [contender.options.window for contender in plan.contenders]  # type: ignore[attr-defined]


def test_a_variant_is_the_extractor_once_more_under_its_own_name() -> None:
    plan = build(BOTH)
    assert [contender.name for contender in plan.contenders] == ["brightness-mean", "narrow"]
    assert [contender.alias for contender in plan.contenders] == ["brightness", ""]
    assert [contender.variant for contender in plan.contenders] == ["", "narrow"]
    assert {contender.plugin.name for contender in plan.contenders} == {"brightness-mean"}
    assert windows(plan)[1] == (0, 50) != windows(plan)[0]
    assert [(d.plugin, d.option, d.value) for d in plan.departures if d.plugin == "narrow"] == [
        ("narrow", "window", (0, 50))
    ]
    assert list(plan.notes) == []


def test_what_is_set_for_the_extractor_holds_for_its_variants_unless_they_have_their_own() -> None:
    given = ("narrow.window=0,50", "brightness.window=-10,90")
    assert windows(plan_of("brightness", "narrow=brightness", "other=brightness", assignments=given)) == [
        (-10, 90),
        (0, 50),
        (-10, 90),
    ]
    alone = plan_of("a=brightness", assignments=("brightness.window=-10,90",))
    assert windows(alone) == [(-10, 90)] and list(alone.notes) == []


def test_a_variant_that_trains_is_of_its_extractor_s_family() -> None:
    given = ("learned.epochs=4", "long.epochs=6")
    plan = plan_of("learned-offset", "long=learned-offset", assignments=given, runs=3)
    assert [c.options.epochs for c in plan.contenders] == [4, 6]  # type: ignore[attr-defined]
    assert [(c.trained, c.runs) for c in plan.contenders] == [(True, 3), (True, 3)]
    assert Departure("long", "epochs", 250, 6, "user") in plan.departures


def test_a_name_changes_no_result_and_so_no_key() -> None:
    plain, named = (plan_of(text).contenders[0] for text in ("brightness", "other=brightness"))
    assert keys.untrained("cpu", plain, plain.make()) == keys.untrained("cpu", named, named.make())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("=brightness", "'' is no name for a variant"),
        ("a b=brightness", "single hyphens or underscores"),
        ("../a=brightness", "single hyphens or underscores"),
        ("a.b=brightness", "single hyphens or underscores"),
        ("[red]=brightness", "single hyphens or underscores"),
        (f"{'a' * 33}=brightness", "at most 32 characters"),
        ("purity=brightness", "That name is taken"),
        ("Brightness=brightness", "That name is taken"),
        ("relax=brightness", "That name is taken"),
        ("center-map=brightness", "That name is taken"),
        ("learned=brightness", "sets options of several extractors"),
        ("a=brightnes", "Did you mean 'brightness'?"),
        ("a=", "no extractor called ''"),
    ],
)
def test_what_cannot_be_a_variant(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(text)
    assert says in str(caught.value)


def test_names_that_come_twice() -> None:
    with pytest.raises(UsageError, match=r"'A' was named twice. Name it once in --extractors\."):
        plan_of("a=brightness", "A=learned-offset")
    with pytest.raises(UsageError, match=r"small=brightness-mean --set small\.OPTION=VALUE"):
        plan_of("brightness", "brightness-mean")


def test_messages_name_the_variant_and_where_its_options_are_described() -> None:
    for given, says in (
        ("narrow.windw=1,2", "'narrow' has no option 'windw'"),
        ("narrow.window=wide", "narrow.window does not take"),
    ):
        with pytest.raises(UsageError) as caught:
            plan_of("narrow=brightness", assignments=(given,))
        assert says in str(caught.value)
        assert "`cbirbench plugins show brightness-mean`" in str(caught.value)
    with pytest.raises(UsageError, match=r"nothing is called 'narow'\. Did you mean 'narrow'\?"):
        plan_of("narrow=brightness", assignments=("narow.window=1,2",))


def test_what_an_extractor_lacks_is_said_of_the_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    brightness_class = registry.load(registry.find("extractor", "brightness"))

    def lacking(self: Any, options: Any, context: Any) -> None:
        if options.window == (0, 50):
            raise MissingError("There are no weights.", "Give brightness.weights.")

    monkeypatch.setattr(brightness_class, "__init__", lacking)
    with pytest.raises(MissingError) as caught:
        build(BOTH)
    assert caught.value.problem == "narrow (of brightness-mean): There are no weights."
    assert caught.value.remedy.startswith(
        "Give brightness.weights. This is of its variant narrow: --set narrow."
    )


def test_a_run_has_a_row_and_files_for_each_and_opens_again(tmp_path: Path) -> None:
    request = dataclasses.replace(
        BOTH,
        extractors=("brightness", "narrow=brightness", "long=learned-offset"),
        assignments=("narrow.window=0,50", "long.epochs=3"),
        runs=1,
    )
    out = tmp_path / "out"
    execute(build(request), out, Store(tmp_path / "cache"), Quiet(), "cbirbench run blobs")
    summary = json.loads((out / "summary.json").read_text())
    assert [(item["name"], item["plugin"], item["aliases"]) for item in summary["extractors"]] == [
        ("brightness-mean", "brightness-mean", ["brightness"]),
        ("narrow", "brightness-mean", []),
        ("long", "learned-offset", []),
    ]
    assert {path.name for path in (out / "embeddings").iterdir()} == {"brightness-mean", "narrow", "long"}
    assert "; a variant of brightness-mean; not trained here." in (out / "report.md").read_text()
    board = scoreboard(summary, read_table(out, "scores.parquet"))
    assert [row.title for row in board.rows] == [
        "brightness-mean (brightness)",
        "narrow (brightness-mean)",
        "long (learned-offset)",
    ]
    assert [item["plugin"] for item in summary["scores"]] == [
        "brightness-mean",
        "brightness-mean",
        "learned-offset",
    ]
    run = open_run(out)
    for name in ("narrow", "long"):
        reopened = run.reopened(name, 0, "cpu")  # it shows that it still embeds alike
        assert reopened.contender.name == name
        assert reopened.shaped_by
