from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AfterValidator, model_validator

from cbirbench.errors import PluginError, UsageError
from cbirbench.interfaces import Options, ProfileName, option
from cbirbench.settings import (
    Assignment,
    Departure,
    RunOptions,
    Settings,
    parse_assignments,
    profile_values,
)


class NetOptions(Options):
    family: ClassVar[str] = "net"
    epochs: int = option(250, description="Passes.", profiles={"released-code": 2000}, ge=1)
    window: tuple[float, float] = option((-200.0, 300.0), description="Window.")
    scale: tuple[float, float] | None = option(None, description="Scale.")
    layers: list[int] = option([1, 2], description="Layers.")
    normalise: Literal["none", "model"] = option("none", description="Normalisation.")
    weights: Path | None = option(None, description="Weights.")
    shuffle: bool = option(True, description="Shuffling.")
    threads: int = option(1, description="Threads.", protocol=False)

    @model_validator(mode="after")
    def _together(self) -> NetOptions:
        if self.threads > self.epochs:
            raise ValueError("more threads than epochs")
        return self


NAMES = ["net-with-views", "net-alias"]


def settings_of(
    *texts: str, profile: ProfileName = "paper", defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    return Settings(profile, defaults or {}, parse_assignments(texts))


def resolved(
    *texts: str,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    names: Sequence[str] = NAMES,
    **flags: Any,
) -> Any:
    return settings_of(*texts, defaults=defaults).resolve(NetOptions, names, **flags)


@pytest.mark.parametrize(
    ("text", "assignment"),
    [
        ("relax.masks=500", Assignment("relax", "masks", "500")),
        (" net . epochs = 3 ", Assignment("net ", " epochs", "3")),
        ("net.batch-size=8", Assignment("net", "batch_size", "8")),
        ("dotted.name.epochs=3", Assignment("dotted.name", "epochs", "3")),
        ("net.weights=a=b.pth", Assignment("net", "weights", "a=b.pth")),
        ("net.weights=", Assignment("net", "weights", "")),
    ],
)
def test_reads_assignments(text: str, assignment: Assignment) -> None:
    assert parse_assignments([text]) == [assignment]


@pytest.mark.parametrize("text", ["net.epochs", "epochs=3", "=3", ".epochs=3", "net.=3", ""])
def test_an_assignment_has_one_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_assignments(["net.epochs=3", text])
    assert f"NAME.OPTION=VALUE, got {text!r}" in caught.value.problem
    assert "--set relax.masks=500" in caught.value.remedy


def test_the_profiles_give_the_first_values() -> None:
    assert settings_of().resolve(NetOptions, NAMES) == NetOptions()
    assert settings_of(profile="released-code").resolve(NetOptions, NAMES) == NetOptions(epochs=2000)
    assert profile_values(NetOptions, "released-code")["epochs"] == 2000
    assert profile_values(RunOptions, "paper")["runs"] == 20
    assert profile_values(RunOptions, "released-code")["runs"] == 5


LAYERS: list[tuple[dict[str, dict[str, int]], list[str], int | None]] = [
    ({}, [], None),
    ({"net": {"epochs": 1}}, [], None),
    ({"net": {"epochs": 1}, "net-with-views": {"epochs": 2}}, [], None),
    ({"net-with-views": {"epochs": 2}, "net": {"epochs": 1}}, ["net.epochs=3"], None),
    ({"net-with-views": {"epochs": 2}}, ["net-with-views.epochs=4", "net.epochs=3"], None),
    ({"net-with-views": {"epochs": 2}}, ["net.epochs=3", "net-alias.epochs=4"], None),
    ({"net": {"epochs": 1}}, ["net.epochs=3", "net-with-views.epochs=4"], 5),
]


@pytest.mark.parametrize(("given", "epochs"), list(zip(LAYERS, [250, 1, 2, 3, 4, 4, 5], strict=True)))
def test_the_order_of_settings(
    given: tuple[dict[str, dict[str, int]], list[str], int | None], epochs: int
) -> None:
    defaults, texts, flag = given
    assert resolved(*texts, defaults=defaults, epochs=flag).epochs == epochs


def test_a_familys_default_comes_first_even_where_it_goes_by_a_members_alias() -> None:
    defaults = {"net": {"epochs": 5}, "net-plain": {"epochs": 7}}
    assert resolved(defaults=defaults, names=["net-plain", "net"]).epochs == 7
    assert resolved("net-plain.epochs=9", "net.epochs=8", names=["net-plain", "net"]).epochs == 9


def test_of_two_equal_assignments_the_later_holds() -> None:
    assert resolved("net.epochs=3", "net.epochs=4").epochs == 4


def test_what_is_set_for_a_variant_outranks_what_is_set_for_its_plugin_whatever_comes_last() -> None:
    def epochs(*texts: str) -> int:
        settings = settings_of(*texts, defaults={"net": {"epochs": 1}})
        found = settings.resolve(NetOptions, NAMES, variant="own")
        assert {departure.plugin for departure in settings.departures.values()} == {"own"}
        assert set(settings.seen) == {"own"}
        assert isinstance(found, NetOptions)
        return found.epochs

    assert epochs() == 1
    assert epochs("net-with-views.epochs=3", "net.epochs=2") == 3
    assert epochs("own.epochs=4", "net-with-views.epochs=3", "net.epochs=2") == 4


def test_others_assignments_are_left_alone_and_unused() -> None:
    settings = settings_of("gabor.scales=3", "net.epochs=4")
    assert settings.resolve(NetOptions, NAMES) == NetOptions(epochs=4)
    assert settings.used == {Assignment("net", "epochs", "4")}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("net.epochs=7", "epochs", 7),
        ("net.window=0,150", "window", (0.0, 150.0)),
        ("net.window= -10.5 , 1e3 ", "window", (-10.5, 1000.0)),
        ("net.scale=1,2", "scale", (1.0, 2.0)),
        ("net.layers=4", "layers", [4]),
        ("net.layers=4,5,6", "layers", [4, 5, 6]),
        ("net.layers=none", "layers", []),
        ("net.normalise=model", "normalise", "model"),
        ("net.normalise=none", "normalise", "none"),
        ("net.weights=folder/a.pth", "weights", Path("folder/a.pth")),
        ("net.shuffle=false", "shuffle", False),
    ],
)
def test_texts_become_typed_values(text: str, field: str, value: Any) -> None:
    found = getattr(resolved(text), field)
    assert found == value
    assert type(found) is type(value) or isinstance(found, Path)


@pytest.mark.parametrize("word", ["none", "None", "null", ""])
def test_none_is_a_value_where_the_option_knows_it(word: str) -> None:
    defaults = {"net": {"weights": Path("a.pth"), "scale": (1.0, 2.0)}}
    options = resolved(f"net.weights={word}", f"net.scale={word}", defaults=defaults)
    assert options.weights is None
    assert options.scale is None


WHOLE = "it takes: whole number, 1 or more."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("net.epochs=many", ["net-with-views.epochs does not take 'many'", WHOLE, "It sets: Passes."]),
        ("net.epochs=2.5", ["'2.5'", WHOLE]),
        ("net.epochs=0", ["does not take '0'", WHOLE]),
        ("net.epochs=", ["does not take ''", WHOLE]),
        ("net.epochs=none", ["does not take 'none'"]),
        ("net.window=1", ["net-with-views.window does not take '1'"]),
        (
            "net.window=1,2,3",
            ["net-with-views.window", "'1,2,3': it takes: 2 numbers, separated by a comma."],
        ),
        ("net.window=", ["net-with-views.window does not take ''"]),
        ("net.window=low,high", ["net-with-views.window", "'low,high'"]),
        ("net.window=nan,1", ["net-with-views.window", "finite", "2 numbers"]),
        ("net.layers=", ["net-with-views.layers does not take ''"]),
        ("net.layers=1,two", ["net-with-views.layers does not take '1,two': it takes: whole numbers, sep"]),
        ("net.normalise=imagenet", ["'imagenet'", "one of none, model"]),
        (
            "net.shuffle=perhaps",
            ["'perhaps': it takes: true or false.", "=VALUE (default true). It sets: Shuf"],
        ),
        ("net.threads=300", ["does not take these options together: more threads than epochs.", "--set"]),
    ],
)
def test_a_value_that_does_not_fit_is_named(text: str, says: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        resolved(text)
    for words in says:
        assert words in str(caught.value)
    assert "--set net-with-views." in caught.value.remedy
    assert "`cbirbench plugins show net-with-views`" in caught.value.remedy
    assert "Value error" not in str(caught.value)


def test_an_unknown_option_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        resolved("net-alias.epoch=3")
    assert "'net-alias' has no option 'epoch' (--set net-alias.epoch=3)" in caught.value.problem
    assert caught.value.remedy.startswith(
        "Did you mean 'epochs'? It takes: whole number, 1 or more (default 250; released-code: 2000). "
        "Its options: epochs, window,"
    )
    assert caught.value.remedy.endswith("`cbirbench plugins show net-alias` describes them.")


def test_an_option_of_another_in_the_same_run_is_told() -> None:
    settings = settings_of("run.shuffle=false", "other.epochs=3")
    settings.resolve(NetOptions, NAMES)
    with pytest.raises(UsageError) as caught:
        settings.resolve(RunOptions, ["run"])
    assert "net-with-views has it: --set net-with-views.shuffle=false. Its options" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        settings.resolve(Options, ["other"])
    assert caught.value.remedy.startswith(
        "net-with-views has it: --set net-with-views.epochs=3. It has no opt"
    )


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Unit(Options):
    side: Annotated[int, AfterValidator(_even)] = option(2, description="Side.", unit="px", ge=1)


def test_a_validators_own_words_are_kept_and_what_it_takes_is_added() -> None:
    with pytest.raises(UsageError) as caught:
        settings_of("unit.side=3").resolve(Unit, ["unit"])
    assert caught.value.problem == "unit.side does not take '3': 3 is odd."
    assert "VALUE: whole number, 1 or more (px; default 2). It sets: Side." in caught.value.remedy


def test_an_unknown_option_of_a_plugin_without_options() -> None:
    with pytest.raises(UsageError, match="It has no options"):
        settings_of("plain.epochs=3").resolve(Options, ["plain"])


def test_a_benchmarks_default_for_an_unknown_option_is_the_benchmarks_fault() -> None:
    with pytest.raises(PluginError, match=r"The benchmark sets net\.epoch, but net-with-views has no such"):
        resolved(defaults={"net": {"epoch": 3}})


def test_departures_say_what_changed_from_what_and_by_whom() -> None:
    settings = settings_of(
        "net.window=0,150", "net.epochs=9", defaults={"net": {"epochs": 5, "shuffle": False}}
    )
    settings.resolve(NetOptions, NAMES)
    assert list(settings.departures.values()) == [
        Departure("net-with-views", "epochs", 250, 9, "user"),
        Departure("net-with-views", "shuffle", True, False, "benchmark"),
        Departure("net-with-views", "window", (-200.0, 300.0), (0.0, 150.0), "user"),
    ]
    assert settings.title() == "paper (changed: epochs, shuffle, window)"


def test_a_flag_departs_like_an_assignment() -> None:
    settings = settings_of(profile="released-code")
    settings.resolve(RunOptions, ["run"], runs=2)
    assert list(settings.departures.values()) == [Departure("run", "runs", 5, 2, "user")]
    assert settings.title() == "released-code (changed: runs)"


def test_the_profiles_own_value_is_no_departure() -> None:
    settings = settings_of("net.epochs=2000", profile="released-code", defaults={"net": {"shuffle": True}})
    settings.resolve(NetOptions, NAMES)
    assert settings.departures == {}
    assert settings.title() == "released-code"
    assert settings.used == {Assignment("net", "epochs", "2000")}


def test_an_option_outside_the_protocol_is_no_departure() -> None:
    settings = settings_of("net.threads=2", "run.batch_size=8")
    assert settings.resolve(NetOptions, NAMES) == NetOptions(threads=2)
    settings.resolve(RunOptions, ["run"])
    assert settings.departures == {}


def test_checking_alone_notes_no_departure() -> None:
    settings = settings_of("net.epochs=9")
    settings.resolve(NetOptions, NAMES, departs=False)
    assert settings.departures == {}


def test_a_title_names_each_option_once() -> None:
    settings = settings_of("net.epochs=9")
    settings.resolve(NetOptions, ["net-one"])
    settings.resolve(NetOptions, ["net-two"])
    assert {name for name, _ in settings.departures} == {"net-one", "net-two"}
    assert settings.title() == "paper (changed: epochs)"


def test_departures_that_change_nothing_in_a_run_are_struck() -> None:
    settings = Settings("paper", {"run": {"runs": 1, "distance": "cosine"}}, [])
    settings.resolve(RunOptions, ["run"])
    assert settings.title() == "paper (changed: distance, runs)"
    settings.disregard("run", "runs")
    assert settings.title() == "paper (changed: distance)"
    settings.disregard("run")
    assert settings.title() == "paper"
