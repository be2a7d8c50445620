from __future__ import annotations

import keyword
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cbirbench import registry
from cbirbench.errors import UsageError
from cbirbench.explain.controls import CONTROLS
from cbirbench.plugin_facts import own_options
from cbirbench.registry import RESERVED_NAMES
from cbirbench.scaffold.names import LONGEST, PluginName, checked

KINDS = st.sampled_from(list(registry.GROUPS))


def refusal(text: str, kind: registry.Kind = "extractor", in_use: set[str] | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        checked(text, kind, in_use or set())
    assert caught.value.exit_code == 2
    return caught.value


def proposed(error: UsageError) -> str:
    found = re.match(r"Take '([^']+)'", error.remedy)
    assert found, error.remedy
    return found[1]


def test_the_spellings_of_a_name() -> None:
    name = checked("my-ct-net2", "extractor")
    assert name.distribution == "cbirbench-my-ct-net2"
    assert name.module == "cbirbench_my_ct_net2"
    assert name.class_name == "MyCtNet2"


@given(st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5}){0,3}", fullmatch=True), KINDS)
def test_a_name_of_the_right_form_makes_a_package(text: str, kind: registry.Kind) -> None:
    try:
        name = checked(text, kind)
    except UsageError as error:
        # What is refused all the same has a reason of its own.
        assert "of the right form" not in error.problem
        return
    assert name == PluginName(text)
    assert name.module.isidentifier() and name.class_name.isidentifier()
    assert not keyword.iskeyword(name.class_name)


@given(st.text(max_size=60), KINDS)
@example("cbirbench-cbirbench-", "metric")
@example("9" * 100, "benchmark")
@example("x" * 31 + "-y", "extractor")
@example("none-" * 20, "augmentation")
def test_whatever_is_refused_gets_a_name_that_is_not(text: str, kind: registry.Kind) -> None:
    try:
        checked(text, kind)
    except UsageError as error:
        proposal = proposed(error)
        assert proposal != text
        assert checked(proposal, kind).dashed == proposal


@pytest.mark.parametrize(
    ("text", "fault", "proposal"),
    [
        ("", "right form", "my-extractor"),
        ("-", "right form", "my-extractor"),
        ("My Net", "right form", "my-net"),
        ("MyNet", "right form", "my-net"),
        ("my_net", "right form", "my-net"),
        ("my--net", "right form", "my-net"),
        ("-net-", "right form", "net"),
        ("3d-net", "right form", "extractor-3d-net"),
        ("../../etc/net", "right form", "etc-net"),
        ("net\n", "right form", "net"),
        ("<b>net</b>", "right form", "b-net-b"),
        ("[red]net", "right form", "red-net"),
        ("Röntgen", "right form", "rontgen"),
        ("肝臓", "right form", "my-extractor"),
        ("a" * 33, "33 characters", "a" * 32),
        ("cbirbench-net", "begins with cbirbench-", "net"),
        ("cbirbench", "begins with cbirbench-", "my-extractor"),
        ("class", "word of Python's", "class-extractor"),
        ("none", "word of Python's", "none-extractor"),
        ("exception", "its class, Exception, would hide another", "exception-extractor"),
        ("run", "cbirbench itself uses it", "run-extractor"),
        ("random-map", "cbirbench itself uses it", "random-map-extractor"),
        ("phantom", "cbirbench has a benchmark of that name", "phantom-extractor"),
        ("map", "cbirbench has a metric of that name", "map-extractor"),
    ],
)
def test_what_is_no_name(text: str, fault: str, proposal: str) -> None:
    error = refusal(text)
    assert fault in error.problem
    assert repr(text)[:66] in error.problem  # quoted, control characters escaped
    assert proposed(error) == proposal


def test_names_of_plugins_that_are_installed_are_taken_whatever_their_kind(install) -> None:
    install("cbirbench-ribs", {"extractor": {"ribs": "elsewhere:Ribs", "rib-cage": "elsewhere:Ribs"}})
    for kind in registry.GROUPS:
        for name in ("ribs", "rib-cage"):  # an alias is a name, too
            assert "cbirbench-ribs has an extractor of that name" in refusal(name, kind).problem
            assert proposed(refusal(name, kind)) == f"{name}-{kind}"


def test_a_module_that_is_there_is_not_hidden(install) -> None:
    assert checked("spleen-size", "metric").module == "cbirbench_spleen_size"
    install("something-else", {}, {"cbirbench_spleen_size": ""})
    assert "there is a module cbirbench_spleen_size already" in refusal("spleen-size", "metric").problem


def test_a_class_hides_nothing_of_its_module() -> None:
    assert checked("plugin", "metric").class_name == "Plugin"
    error = refusal("plugin", "metric", {"Plugin"})
    assert "its class, Plugin, would hide another" in error.problem
    assert proposed(error) == "plugin-metric"


def test_a_long_text_is_not_repeated_whole() -> None:
    assert len(refusal("x" * 100_000).problem) < 200
    assert len(proposed(refusal("x" * 100_000))) == LONGEST


def test_cbirbenchs_own_names_are_known() -> None:
    assert set(RESERVED_NAMES) == {*own_options(), *CONTROLS}
