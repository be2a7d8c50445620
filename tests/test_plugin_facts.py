from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cbirbench import __version__, registry
from cbirbench.errors import UsageError
from cbirbench.plugin_facts import (
    OWN_NAMES,
    Package,
    PluginFacts,
    called,
    facts_of,
    families,
    import_problem,
    listing,
    own_options,
    package_of,
)

EXTRACTOR = '''
from cbirbench.interfaces import Options, option

class FlatOptions(Options):
    """None."""
    family = "flats"
    side: int = option(3, description="Side.", unit="px", ge=1)

class Flat:
    """Flat features,
    as ``flat`` as can be.

    And more."""
    interface_version = 1
    options_type = FlatOptions
    def __init__(self, options=None, context=None): raise RuntimeError("a factory that raises")
    def fingerprint(self): ...
    def prepare(self, hu): ...
    def embed(self, images): ...
'''


def one(name: str, kind: registry.Kind | None = None) -> PluginFacts:
    (facts,) = called(name, kind)
    return facts


def described(site: Path, metadata: str) -> None:
    """Give a distribution's metadata more lines."""
    (file,) = site.glob("*.dist-info/METADATA")
    file.write_text(file.read_text() + metadata)


def test_what_an_extractor_is_is_read_from_its_class_without_making_it(install) -> None:
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    facts = one("flat")
    assert facts.package == Package("flat-package", "1.0")
    assert (facts.kind, facts.name, facts.aliases) == ("extractor", "flat", ())
    assert facts.value == "flat_module:Flat"
    assert facts.problem == ""
    assert facts.interface_version == 1
    assert facts.purpose == "Flat features, as `flat` as can be."
    assert not any((facts.trains, facts.cheaper_for_explanations, facts.located, facts.floor))
    assert (facts.needs, facts.defaults) == ("", {})
    assert [row.takes for row in facts.options] == ["whole number, 1 or more (px; default 3)"]


def test_what_every_kind_says_of_itself(fake_plugins) -> None:
    assert one("learned-offset").trains and not one("brightness").trains
    assert one("brightness").aliases == ("brightness",) and one("brightness").name == "brightness-mean"
    assert one("coverage").needs == "explanations"
    assert one("purity").needs == "ranking"
    assert one("mirroring").purpose == ""
    assert one("coverage").options == ()
    phantom = one("phantom")
    assert phantom.defaults["run"] == {"runs": "1"}
    assert phantom.defaults["simsiam"]["epochs"] == "15"


def test_a_cheaper_twin_a_position_and_being_a_floor_are_opted_into(install) -> None:
    source = "from cbirbench.interfaces import Explainable, Floor, Located\n" + EXTRACTOR.replace(
        "class Flat:", "class Flat(Explainable, Floor, Located):"
    )
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": source})
    assert one("flat").cheaper_for_explanations
    assert one("flat").located
    assert one("flat").floor


def test_a_family_names_its_members_and_can_be_asked_for(install, fake_plugins) -> None:
    other = EXTRACTOR.replace("Flat:", "Flatter:")
    install(
        "flat-package",
        {"extractor": {"flat": "flat_module:Flat", "flatter": "flatter_module:Flatter"}},
        {"flat_module": EXTRACTOR, "flatter_module": other},
    )
    assert families()["flats"] == ("flat", "flatter")
    assert families()["learned"] == ("learned-offset",)
    assert one("flat").family == "flats"
    assert one("flat").family_members == ("flat", "flatter")
    assert [facts.name for facts in called("flats")] == ["flat", "flatter"]


def test_a_name_of_several_kinds_gives_all_of_them_or_the_one_asked_for(install, fake_plugins) -> None:
    install("more", {"metric": {"mirroring": "cbirbench_fake:Purity"}})
    assert [facts.kind for facts in called("mirroring")] == ["augmentation", "metric"]
    assert one("mirroring", "metric").package.name == "more"


def test_the_run_itself_and_the_explanations_have_options_too(install, fake_plugins) -> None:
    assert set(own_options()) == set(OWN_NAMES) == {"run", "relax"}
    run = one("run")
    assert (run.kind, run.package, run.problem) == ("run", Package("cbirbench", __version__), "")
    assert "runs" in [row.name for row in run.options]
    assert "masks" in [row.name for row in one("relax").options]
    install("more", {"metric": {"run": "cbirbench_fake:Purity"}})
    assert [facts.kind for facts in called("run")] == ["run", "metric"]


@pytest.mark.parametrize(
    ("name", "kind", "problem", "remedy"),
    [
        ("brigthness", None, "Nothing is called 'brigthness'.", "Did you mean 'brightness'?"),
        ("learnd", None, "Nothing is called 'learnd'.", "Did you mean 'learned'?"),
        ("relaxx", None, "Nothing is called 'relaxx'.", "Did you mean 'relax'?"),
        ("../x", None, "Nothing is called '../x'.", "`cbirbench plugins list` shows all names"),
        ("[red]x[/red]", None, "Nothing is called '[red]x[/red]'.", "run and relax"),
        ("\x1b[31mx", None, r"Nothing is called '\x1b[31mx'.", "run and relax"),
        ("puritty", "metric", "No metric is called 'puritty'.", "Did you mean 'purity'?"),
        ("purity", "extractor", "'purity' is no extractor.", "Leave --kind out, or say --kind metric."),
        ("relax", "metric", "'relax' is no metric.", "Leave --kind out."),
    ],
)
def test_an_unknown_name_gets_the_nearest(
    fake_plugins, name: str, kind: registry.Kind | None, problem: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        called(name, kind)
    assert caught.value.problem == problem
    assert remedy in caught.value.remedy


METADATA = [
    ("", Package("flat-package", "1.0")),
    (
        "Summary: Flat features\nLicense-Expression: MIT\nHome-page: https://flat.org\nAuthor: A. Flat\n",
        Package("flat-package", "1.0", "Flat features", "MIT", "https://flat.org", "A. Flat"),
    ),
    (
        "License: Apache License\n        Version 2.0 and all of its text\n"
        "Project-URL: Issues, https://flat.org/issues\nProject-URL: Home Page, https://flat.org/home\n"
        "Project-URL: Source, https://flat.org/src\n"
        "Author-email: B. Flat <b@flat.org>, c@flat.org\n",
        Package(
            "flat-package",
            "1.0",
            licence="Apache License",
            home_page="https://flat.org/home",
            authors="B. Flat, c@flat.org",
        ),
    ),
    (
        "Classifier: Topic :: Software\nClassifier: License :: OSI Approved :: BSD License\n"
        "Project-URL: Source Code, https://flat.org/src\n",
        Package("flat-package", "1.0", licence="BSD License", home_page="https://flat.org/src"),
    ),
    ("Summary:\nAuthor-email: \nProject-URL: nonsense\n", Package("flat-package", "1.0")),
]


@pytest.mark.parametrize(
    ("metadata", "package"), METADATA, ids=["none", "old", "new", "classifiers", "empty"]
)
def test_what_a_distribution_says_of_itself(install, metadata: str, package: Package) -> None:
    site = install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": "1 / 0"})
    described(site, metadata)
    assert package_of(registry.find("extractor", "flat")) == package
    assert "flat_module" not in sys.modules


def test_a_distribution_without_metadata_says_nothing(install) -> None:
    site = install("gutted", {"extractor": {"rest": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    next(site.glob("*.dist-info/METADATA")).unlink()
    registry.forget()
    assert one("rest").package == Package("unknown", "")
    assert one("rest").options != ()


BROKEN = {
    "an import that fails": ("import a_library_that_is_not_here", "No module named 'a_library_that_is_not"),
    "a module that ends Python": ("raise SystemExit(3)", "SystemExit: 3"),
    "no such class": ("Other = 1", "AttributeError"),
    "no extractor": (EXTRACTOR.replace("def embed", "def encode"), "lacks embed"),
    "a newer interface": (EXTRACTOR.replace("interface_version = 1", "interface_version = 99"), "version 99"),
    "metadata of a class that raise": (
        EXTRACTOR + "FlatOptions.model_fields['side'].json_schema_extra['profiles'] = 3\n",
        "It cannot be described: AttributeError",
    ),
}


@pytest.mark.parametrize(("source", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_a_fact_and_hides_no_other(install, fake_plugins, source: str, says: str) -> None:
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": source})
    facts = one("flat")
    assert says in facts.problem
    assert facts.package.name == "flat-package"
    assert (facts.interface_version, facts.options) == (None, ())
    assert one("brightness").problem == ""
    assert "learned" in families()


def test_two_plugins_with_one_name_are_both_shown_with_what_is_wrong(install) -> None:
    install("flat-one", {"extractor": {"flat": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    install("flat-two", {"extractor": {"flat": "flat_two:Flat"}}, {"flat_two": EXTRACTOR})
    found = called("flat")
    assert [facts.package.name for facts in found] == ["flat-one", "flat-two"]
    assert all("flat-one and flat-two both provide 'flat'" in facts.problem for facts in found)
    assert "flat_one" not in sys.modules


def test_an_entry_point_of_no_valid_form_and_an_invalid_name_are_listed_as_broken(install) -> None:
    entries = {"flat": "flat_module:Flat", "../flat": "flat_module:Flat", "syntaxy": "flat_module::"}
    install("mixed", {"extractor": entries}, {"flat_module": EXTRACTOR})
    problems = {entry.plugin.names: entry.problem for entry in listing(check=True)}
    assert problems["flat",] == "" == one("flat").problem
    assert problems["../flat",].startswith("'../flat' is not a valid name")
    expected = "its entry point 'flat_module::' names no class: it should read module:Class"
    assert problems["syntaxy",] == one("syntaxy").problem == expected


def test_the_listing_imports_only_when_it_is_to_check(install, fake_plugins) -> None:
    install("bomb", {"extractor": {"bomb": "bomb_module:Bomb"}}, {"bomb_module": "raise SystemExit"})
    before = {entry.plugin.name: entry for entry in listing()}
    assert before["bomb"].problem == ""
    assert before["purity"].interface_version is None
    assert "bomb_module" not in sys.modules
    after = {entry.plugin.name: entry for entry in listing(check=True)}
    assert list(after) == list(before)
    assert "SystemExit" in after["bomb"].problem and after["bomb"].interface_version is None
    assert after["purity"].problem == "" and after["purity"].interface_version == 1


def test_ours_have_no_problem_and_all_say_what_they_are() -> None:
    for entry in listing(check=True):
        if entry.plugin.distribution.startswith("cbirbench"):
            facts = facts_of(entry.plugin)
            assert facts.problem == import_problem(entry.plugin) == ""
            assert facts.purpose.endswith("."), entry.plugin.name
            assert facts.package.summary and facts.package.licence and facts.package.authors
