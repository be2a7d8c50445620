from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from cbirbench.errors import DataError, MissingError, PluginError, UsageError
from cbirbench.explain.precision import resolved
from cbirbench.explain.relax import RelaxOptions
from cbirbench.plan import Plan, Request
from cbirbench.planning import build, choose_device
from cbirbench.settings import Departure, RunOptions

pytestmark = pytest.mark.usefixtures("fake_plugins")

BOTH = Request(
    benchmark="blobs", extractors=("learned-offset", "brightness"), metrics=("purity",), device="cpu"
)


def plan_of(**changed: Any) -> Plan:
    return build(dataclasses.replace(BOTH, **changed))


def test_resolves_everything_that_was_asked_for() -> None:
    plan = plan_of(assignments=("learned.epochs=4",))
    assert [contender.name for contender in plan.contenders] == ["learned-offset", "brightness-mean"]
    assert [contender.alias for contender in plan.contenders] == ["", "brightness"]
    assert [contender.trained for contender in plan.contenders] == [True, False]
    assert [contender.floor for contender in plan.contenders] == [False, False]
    assert [contender.runs for contender in plan.contenders] == [2, 1]
    assert [metric.name for metric in plan.metrics] == ["purity@5"]
    assert [plugin.name for plugin in plan.metric_plugins] == ["purity"]
    assert [source.volume_id for source in plan.sources] == ["g0", "g1", "q0", "q1"]
    assert plan.run_options == RunOptions(runs=2)
    assert plan.relax == RelaxOptions(precision=resolved("auto", "cpu"))
    assert (plan.device, plan.depth(9), plan.explains) == ("cpu", 5, False)
    assert list(plan.departures) == [
        Departure("run", "runs", 20, 2, "benchmark"),
        Departure("learned-offset", "epochs", 250, 4, "user"),
    ]
    assert plan.title == "paper (changed: epochs, runs)"
    assert list(plan.notes) == []
    assert plan.contenders[0].make() is not plan.contenders[0].make()


def test_a_floor_is_known_as_one() -> None:
    plan = plan_of(extractors=("brightness", "random", "z-position"))
    assert [contender.floor for contender in plan.contenders] == [False, True, True]


def test_an_alias_stands_beside_the_canonical_name_whichever_was_asked_for() -> None:
    (contender,) = plan_of(extractors=("brightness-mean",)).contenders
    assert (contender.name, contender.alias) == ("brightness-mean", "brightness")


def test_the_depth_is_the_deepest_metrics_and_at_least_one() -> None:
    assert plan_of(metrics=("purity@3", "purity@9", "coverage")).depth(20) == 9
    alone = plan_of(metrics=("coverage",), explain_queries=())
    assert alone.depth(20) == 1
    assert alone.explains


def test_figures_of_queries_show_five_neighbours_or_the_whole_gallery() -> None:
    drawn = plan_of(metrics=("coverage", "purity@3"))
    assert drawn.draws_retrievals
    assert [drawn.depth(size) for size in (20, 5, 4, 3)] == [5, 5, 4, 3]
    assert drawn.depth(2) == 3, "a metric that looks too far is not cut short"
    asked = plan_of(metrics=("purity@1",), explain_queries=("q0-1",))
    assert asked.draws_retrievals and not asked.explains and asked.depth(20) == 5
    assert not plan_of(metrics=("purity@1",)).draws_retrievals


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"benchmark": "blob"}, "no benchmark called 'blob'. Did you mean 'blobs'?"),
        ({"extractors": ("brightnes",)}, "no extractor called 'brightnes'. Did you mean 'brightness'?"),
        ({"extractors": ("BRIGHTNESS",)}, "no extractor called 'BRIGHTNESS'. Did you mean 'brightness'?"),
        ({"metrics": ("purity5",)}, "no metric called 'purity5'. Did you mean 'purity@5'?"),
        ({"metrics": ("Purity_12",)}, "no metric called 'Purity_12'. Did you mean 'purity@12'?"),
        ({"metrics": ("coverage5",)}, "no metric called 'coverage5'. Did you mean 'coverage'?"),
        ({"metrics": ("5",)}, "no metric called '5'"),
        ({"metrics": ("puritys",)}, "no metric called 'puritys'. Did you mean 'purity'?"),
        ({"extractors": ()}, "No extractor was named"),
        ({"metrics": ()}, "No metric was named"),
        ({"extractors": ("brightness", "brightness-mean")}, "extractor 'brightness-mean' was named twice"),
        ({"metrics": ("purity", "purity@5")}, "metric 'purity@5' was named twice"),
        (
            {"metrics": ("purity@five",)},
            "'purity@five' is no metric: 'purity' takes a whole number after the @.",
        ),
        ({"metrics": ("purity@",)}, "Use purity@5."),
        ({"metrics": ("purity@²",)}, "a whole number after the @"),
        ({"metrics": ("purity@٣",)}, "a whole number after the @"),
        pytest.param(
            {"metrics": (f"purity@{'9' * 5000}",)}, "a whole number after the @", id="an endless number"
        ),
        ({"metrics": ("purity@-1",)}, "a whole number after the @"),
        ({"metrics": ("purity@0",)}, "purity.k does not take 0"),
        ({"metrics": ("coverage@5",)}, "'coverage' takes no @K. Use coverage."),
        ({"data": Path("scans")}, "'blobs' reads no scans, but --data scans was given"),
        ({"runs": 0}, "run.runs does not take 0"),
        ({"assignments": ("epochs=3",)}, "NAME.OPTION=VALUE, got 'epochs=3'"),
        ({"assignments": ("blobs.scan=3",)}, "'blobs' has no option 'scan'"),
        ({"assignments": ("blobs.scans=few",)}, "blobs.scans does not take 'few'"),
        ({"assignments": ("relax.mask=3",)}, "Did you mean 'masks'?"),
        ({"assignments": ("run.distance=manhattan",)}, "run.distance does not take 'manhattan'"),
        (
            {"assignments": ("brigthness.window=0,1",)},
            "nothing is called 'brigthness'. Did you mean 'brightness'?",
        ),
        ({"assignments": ("rellax.masks=1",)}, "nothing is called 'rellax'. Did you mean 'relax'?"),
        ({"assignments": ("lerned.epochs=1",)}, "nothing is called 'lerned'. Did you mean 'learned'?"),
        ({"assignments": ("rellax.masks=1",)}, "`cbirbench plugins show NAME` describes the options"),
        (
            {"assignments": ("brightness.epochs=3",), "extractors": ("brightness", "learned-offset")},
            "learned-offset has it: --set learned-offset.epochs=3.",
        ),
        (
            {"assignments": ("blobs.shared_patient=true",)},
            "1 patients are in the gallery and in the queries: patient-g0",
        ),
        ({"assignments": ("blobs.scans=0",)}, "'blobs' has no gallery scans with these options"),
    ],
)
def test_a_mistake_is_a_usage_error(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(**changed)
    assert says in str(caught.value)
    assert caught.value.remedy


def test_a_k_of_ones_own() -> None:
    plan = plan_of(metrics=("purity@3", "purity"), assignments=("purity.k=7",))
    assert [metric.name for metric in plan.metrics] == ["purity@3", "purity@7"]


METRIC = """
from cbirbench.interfaces import Plugin
class Odd(Plugin):
    interface_version = 1
    needs = "ranking"
    name = "odd"
    depth = 3
    def per_query(self, evidence): ...
"""


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ("depth = -3", "says that its depth is -3."),
        ("depth = 5.0", "says that its depth is 5.0."),
        ("depth = True", "says that its depth is True."),
        ("depth = None", "says that its depth is None."),
        ("depth = '5'", "says that its depth is '5'."),
        ("depth = property(lambda self: 1 // 0)", "cannot say its name and depth: ZeroDivisionError"),
        ("depth = property(lambda self: self.gone)", "lacks depth."),
        ("name = 5", "says that its name is 5."),
        ("name = None", "says that its name is None."),
        ("name = ''", "says that its name is ''."),
        ("name = '..'", "says that its name is '..'."),
        ("name = '../../odd'", "says that its name is '../../odd'."),
        ("name = 'odd\\\\one'", r"says that its name is 'odd\\one'."),
        ("name = 'odd\\x1b[2J'", r"says that its name is 'odd\x1b[2J'."),
        ("name = 'odd\\none'", r"says that its name is 'odd\none'."),
    ],
)
def test_a_metric_that_says_nonsense_of_itself_is_refused(install, stated: str, says: str) -> None:
    install("odd-package", {"metric": {"odd": "odd_module:Odd"}}, {"odd_module": f"{METRIC}    {stated}\n"})
    with pytest.raises(PluginError) as caught:
        plan_of(metrics=("odd",))
    assert caught.value.problem.startswith("The metric 'odd' of odd-package ")
    assert says in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("stated", ["depth = 0", "name = 'odd@5 (mean)'", "name = 'Präzision'"])
def test_a_metric_may_look_at_nothing_and_have_any_plain_name(install, stated: str) -> None:
    install("odd-package", {"metric": {"odd": "odd_module:Odd"}}, {"odd_module": f"{METRIC}    {stated}\n"})
    assert len(plan_of(metrics=("odd",)).metrics) == 1


def test_two_scans_with_one_id_are_the_benchmarks_fault() -> None:
    with pytest.raises(PluginError, match="two of them with the id 'g0'"):
        plan_of(assignments=("blobs.repeated_id=yes",))


def test_weights_are_looked_for_before_anything_is_computed() -> None:
    with pytest.raises(DataError, match="The weights 'absent' are not there"):
        plan_of(assignments=("learned-offset.weights=absent",))


def test_data_goes_to_a_benchmark_that_takes_it() -> None:
    plan = plan_of(benchmark="archived-blobs", data=Path("scans"), assignments=("archived-blobs.data=other",))
    assert plan.benchmark_options.model_dump()["data"] == Path("scans")
    assert "data" not in plan.title


def test_a_flag_outranks_the_benchmark_and_an_assignment() -> None:
    plan = plan_of(runs=3, assignments=("run.runs=4",))
    assert plan.run_options.runs == 3
    assert [contender.runs for contender in plan.contenders] == [3, 1]


def test_every_assignment_without_effect_is_noted() -> None:
    plan = plan_of(
        extractors=("brightness",),
        assignments=(
            "learned-offset.epochs=3",
            "learned-offset.weights=absent",
            "brightness.window=0,1",
            "archived-blobs.scans=3",
            "mirroring.chance=1",
            "learned.epochs=4",
        ),
    )
    assert list(plan.notes) == [
        "--set learned-offset.epochs=3 has no effect: learned-offset takes no part in this run.",
        "--set learned-offset.weights=absent has no effect: learned-offset takes no part in this run.",
        "--set archived-blobs.scans=3 has no effect: archived-blobs takes no part in this run.",
        "--set mirroring.chance=1 has no effect: mirroring takes no part in this run.",
        "--set learned.epochs=4 has no effect: learned takes no part in this run.",
    ]
    assert {departure.plugin for departure in plan.departures} == {"brightness-mean"}


@pytest.mark.parametrize("text", ["learned-offset.epoch=3", "learned-offset.epochs=few", "learned.epoch=3"])
def test_an_assignment_without_effect_must_be_right_all_the_same(text: str) -> None:
    with pytest.raises(UsageError, match="epoch"):
        plan_of(extractors=("brightness",), assignments=(text,))


def test_an_augmentation_that_an_extractor_asks_for_takes_part() -> None:
    plan = plan_of(assignments=("mirroring.chance=1",))
    assert list(plan.notes) == []
    assert plan.contenders[0].make().fingerprint() == {"views": {"chance": 1.0}}
    assert Departure("mirroring", "chance", 0.5, 1.0, "user") in plan.departures


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device(monkeypatch: pytest.MonkeyPatch, asked: str, there: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(asked) == chosen


def test_a_gpu_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingError, match=r"sees no CUDA device.*--device cpu"):
        plan_of(device="cuda")


def test_equal_requests_have_one_key() -> None:
    key = plan_of().key()
    assert plan_of().key() == key
    assert plan_of(extractors=("learned-offset", "brightness-mean")).key() == key
    assert plan_of(metrics=("purity@5",)).key() == key
    assert plan_of(device="auto").key() == key or torch.cuda.is_available()
    assert plan_of(runs=2).key() == plan_of(assignments=("run.runs=2",)).key()


CHANGES: list[dict[str, Any]] = [
    {"benchmark": "archived-blobs"},
    {"benchmark": "archived-blobs", "data": Path("scans")},
    {"extractors": ("learned-offset",)},
    {"extractors": ("brightness", "learned-offset")},
    {"metrics": ("purity@4",)},
    {"metrics": ("purity", "coverage")},
    {"runs": 3},
    {"seed": 1},
    {"profile": "released-code"},
    {"pixels": False},
    {"assignments": ("blobs.scans=3",)},
    {"assignments": ("learned.epochs=4",)},
    {"assignments": ("brightness.window=0,1",)},
    {"assignments": ("mirroring.chance=1",)},
    {"assignments": ("relax.masks=4",)},
    {"assignments": ("run.distance=cosine",)},
    {"assignments": ("run.batch_size=4",)},
]


def test_each_change_has_a_key_of_its_own() -> None:
    keys = [plan_of(**changed).key() for changed in [{}, *CHANGES]]
    assert len(set(keys)) == len(keys)
