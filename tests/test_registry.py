from __future__ import annotations

import importlib.metadata
import sys
import types
from pathlib import Path

import pytest

from cbirbench import registry
from cbirbench.errors import DataError, PluginError, UsageError
from cbirbench.registry import Plugin, find, installed, load, make, nearest, source_digest

EXTRACTOR = """
from cbirbench.interfaces import Options

class Flat:
    interface_version = 1
    options_type = Options
    def __init__(self, options=None, context=None): ...
    def fingerprint(self): ...
    def prepare(self, hu): ...
    def embed(self, images): ...
"""


def plugin_of(name: str, value: str, kind: registry.Kind = "extractor") -> Plugin:
    return Plugin(kind, name, (), value, "some-package", "2.1")


def by_name(kind: registry.Kind, name: str) -> Plugin:
    (found,) = [plugin for plugin in installed(kind) if name in plugin.names]
    return found


def test_an_alias_is_one_more_entry_point_of_the_longest_name(install) -> None:
    install(
        "flat-package",
        {
            "extractor": {
                "flat": "flat_module:Flat",
                "flat-features": "flat_module:Flat",
                "fl": "flat_module : Flat",
            }
        },
        {"flat_module": EXTRACTOR},
        version="3.2",
    )
    plugin = find("extractor", "fl")
    assert plugin == find("extractor", "flat") == find("extractor", "flat-features")
    assert plugin == Plugin(
        "extractor", "flat-features", ("flat", "fl"), "flat_module:Flat", "flat-package", "3.2"
    )
    assert plugin.names == ("flat-features", "flat", "fl")


def test_listing_and_finding_import_nothing(install) -> None:
    install(
        "explosive",
        {"extractor": {"bomb": "explosive_module:Bomb"}},
        {"explosive_module": "raise SystemExit"},
    )
    assert by_name("extractor", "bomb").problem == ""
    assert find("extractor", "bomb").distribution == "explosive"
    assert "explosive_module" not in sys.modules


def test_kinds_are_apart_and_sorted(fake_plugins, install) -> None:
    install("more", {"metric": {"aardvark": "cbirbench_fake:Purity"}})
    names = [plugin.name for plugin in installed("metric")]
    assert names == sorted(names)
    assert {"aardvark", "coverage", "purity"} <= set(names)
    assert "blobs" not in names
    assert "blobs" in [plugin.name for plugin in installed("benchmark")]


def test_two_distributions_with_one_name_are_both_named(install) -> None:
    install("flat-one", {"extractor": {"flat": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    install("flat-two", {"extractor": {"flat": "flat_two:Flat"}}, {"flat_two": EXTRACTOR})
    assert [p.distribution for p in installed("extractor") if p.name == "flat"] == ["flat-one", "flat-two"]
    with pytest.raises(PluginError, match="flat-one and flat-two both provide 'flat': uninstall one"):
        find("extractor", "flat")


def test_the_same_name_for_two_kinds_is_no_conflict(install) -> None:
    install("flat-one", {"extractor": {"flat": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    install("flat-two", {"metric": {"flat": "flat_two:Flat"}}, {"flat_two": EXTRACTOR})
    assert find("extractor", "flat").distribution == "flat-one"
    assert find("metric", "flat").distribution == "flat-two"


def test_one_distribution_found_twice_is_one(install) -> None:
    site = install("flat-one", {"extractor": {"flat": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    sys.path.append(str(site))
    registry.forget()
    assert [plugin.distribution for plugin in installed("extractor") if plugin.name == "flat"] == ["flat-one"]
    assert find("extractor", "flat").problem == ""


def test_an_unknown_name_gets_the_nearest_the_list_and_the_command(fake_plugins) -> None:
    with pytest.raises(UsageError) as caught:
        find("extractor", "brigthness")
    assert "no extractor called 'brigthness'" in caught.value.problem
    assert "Did you mean 'brightness'?" in caught.value.remedy
    assert "learned-offset" in caught.value.remedy
    assert "pip install" in caught.value.remedy


def test_an_unknown_name_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.GROUPS, "augmentation", "cbirbench.nothing-is-here")
    registry.forget()
    assert installed("augmentation") == []
    with pytest.raises(UsageError, match="No augmentation is installed"):
        find("augmentation", "mirroring")
    registry.forget()


def test_nearest() -> None:
    assert nearest("gabro", ["hog", "gabor"]) == "Did you mean 'gabor'? "
    assert nearest("zzz", ["hog", "gabor"]) == ""
    assert nearest("hog", []) == ""


@pytest.mark.parametrize("name", ["HOG", "Hog", "hGo"])
def test_the_nearest_is_found_whatever_the_capitals(name: str) -> None:
    assert nearest(name, {"hog", "gabor"}) == "Did you mean 'hog'? "
    assert nearest(name, {"HOG-X", "gabor"}) == "Did you mean 'HOG-X'? "


def test_what_is_installed_while_we_run_is_found_once_the_old_is_forgotten(install, tmp_path: Path) -> None:
    site = install("early", {"extractor": {"early": "early_module:Flat"}}, {"early_module": EXTRACTOR})
    find("extractor", "early")
    info = site / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cbirbench.extractors]\nlate = late_module:Flat\n")
    (site / "late_module.py").write_text(EXTRACTOR)
    with pytest.raises(UsageError, match="'late'"):
        find("extractor", "late")
    registry.forget()
    assert find("extractor", "late").problem == ""


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("two words", "flat_module:Flat", "'two words' is not a valid name"),
        ("-dash", "flat_module:Flat", "'-dash' is not a valid name"),
        ("a,b", "flat_module:Flat", "'a,b' is not a valid name"),
        ("classless", "flat_module", "names no class: it should read module:Class"),
        ("gone", "module_that_is_gone:Flat", "'module_that_is_gone' is not there: reinstall"),
        ("moduleless", ":Flat", "':Flat' names no class: it should read module:Class"),
        ("pathlike", "../x:Flat", "'../x:Flat' names no module: it should read module:Class"),
        ("marked", "[red]x[/red]:Flat", "names no module: it should read module:Class"),
        ("syntaxy", "bad p::", "'bad p::' names no module: it should read module:Class"),
        ("spaced", "flat_ module:Flat", "'flat_ module:Flat' names no module"),
        ("colons", "flat_module::", "'flat_module::' names no class: it should read module:Class"),
        ("dashed", "flat_module:Fl-at", "'flat_module:Fl-at' names no class"),
        ("dotted", "flat_module:Flat.", "'flat_module:Flat.' names no class"),
        ("../x", "flat_module:Flat", "'../x' is not a valid name"),
        ("[red]x[/red]", "flat_module:Flat", "'[red]x[/red]' is not a valid name"),
    ],
)
def test_what_can_be_told_without_an_import_is_told_in_the_listing(
    install, name: str, value: str, says: str
) -> None:
    install("flawed", {"extractor": {name: value}}, {"flat_module": EXTRACTOR})
    assert says in by_name("extractor", name).problem
    with pytest.raises(PluginError) as caught:
        find("extractor", name)
    assert "flawed" in caught.value.problem
    assert says in caught.value.problem
    assert "flat_module" not in sys.modules


def test_an_entry_point_of_no_valid_form_spoils_none_beside_it(install) -> None:
    entries = {"flat": "flat_module : Flat", "syntaxy": "flat_module::", "extras": "flat_module:Flat [more]"}
    install("mixed", {"extractor": entries}, {"flat_module": EXTRACTOR})
    assert load(find("extractor", "flat")) is load(find("extractor", "extras"))
    with pytest.raises(
        PluginError, match="'syntaxy' of mixed cannot be used: its entry point 'flat_module::'"
    ):
        find("extractor", "syntaxy")


@pytest.mark.parametrize("invalid", ["../../evil", "[bold]mk", "D\x1b[31mup", "two words"])
def test_an_invalid_name_is_no_alias_and_spoils_none(install, invalid: str) -> None:
    entries = {invalid: "flat_module:Flat", "Dup": "flat_module:Flat", "D": "flat_module:Flat"}
    install("mixed", {"extractor": entries}, {"flat_module": EXTRACTOR})
    assert find("extractor", "D").names == ("Dup", "D")
    assert find("extractor", "Dup").problem == ""
    broken = by_name("extractor", invalid)
    assert (broken.names, broken.value) == ((invalid,), "flat_module:Flat")
    with pytest.raises(PluginError) as caught:
        find("extractor", invalid)
    assert f"cannot be used: {invalid!r} is not a valid name" in caught.value.problem


def test_an_invalid_name_of_two_packages_is_refused_as_invalid(install) -> None:
    install("flat-one", {"extractor": {"a b": "flat_one:Flat"}}, {"flat_one": EXTRACTOR})
    install("flat-two", {"extractor": {"a b": "flat_two:Flat"}}, {"flat_two": EXTRACTOR})
    with pytest.raises(PluginError, match="'a b' of flat-one cannot be used: 'a b' is not a valid name"):
        find("extractor", "a b")


def test_of_two_names_that_clash_each_is_refused_for_itself(install) -> None:
    for package in ("one", "two"):
        names = {"flat": f"flat_{package}:Flat", "twin": f"flat_{package}:Flat", f"own-{package}": "gone:X"}
        install(f"flat-{package}", {"extractor": names}, {f"flat_{package}": EXTRACTOR})
    for name in ("flat", "twin"):
        with pytest.raises(PluginError) as caught:
            find("extractor", name)
        assert caught.value.problem.endswith(
            f"cannot be used: flat-one and flat-two both provide {name!r}: uninstall one of them."
        )
    listed = by_name("extractor", "own-one"), *(p for p in installed("extractor") if "twin" in p.names)
    assert "both provide" not in listed[0].problem
    assert all(f"provide {name!r}" in plugin.problem for plugin in listed[1:] for name in ("flat", "twin"))


def test_a_distribution_that_provides_a_name_twice_is_named(install) -> None:
    site = install("doubled", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    (points,) = site.glob("*.dist-info/entry_points.txt")
    points.write_text(points.read_text() + "flat = flat_module:Flatter\n")
    registry.forget()
    with pytest.raises(PluginError, match="doubled provides 'flat' 2 times: reinstall or update it"):
        find("extractor", "flat")


def test_entry_points_that_cannot_be_read_hide_no_others(install, fake_plugins) -> None:
    site = install("garbled", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    (points,) = site.glob("*.dist-info/entry_points.txt")
    points.write_text(points.read_text() + "no equals sign\n")
    binary = install("binary", {"extractor": {"bits": "flat_module:Flat"}})
    next(binary.glob("*.dist-info/entry_points.txt")).write_bytes(b"\xff\xfe")
    unreadable = install("unreadable", {"metric": {"odd": "cbirbench_fake:Purity"}})
    next(unreadable.glob("*.dist-info/METADATA")).write_bytes(b"Name: \xff\n")
    registry.forget()
    assert (
        by_name("extractor", "garbled").problem == "its entry points cannot be read: reinstall or update it"
    )
    assert find("metric", "odd").distribution == "unknown"
    assert find("extractor", "brightness").problem == ""


def test_a_module_that_is_loaded_without_a_spec_is_there(install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "specless", types.ModuleType("specless"))
    install("specless-package", {"extractor": {"flat": "specless:Flat"}})
    assert find("extractor", "flat").problem == ""


def test_of_two_versions_the_first_on_the_path_is_the_installed_one(install) -> None:
    install("flat-one", {"extractor": {"flat": "flat_old:Flat"}}, {"flat_old": EXTRACTOR})
    copy = install("other", {})
    info = copy / "Flat_One-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Flat.One\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[cbirbench.extractors]\nflat = flat_new:Flat\n")
    (copy / "flat_new.py").write_text(EXTRACTOR)
    registry.forget()
    assert find("extractor", "flat").version == "2.0"


def test_a_distribution_without_metadata_does_not_spoil_the_listing(install, fake_plugins) -> None:
    site = install("gutted", {"extractor": {"rest": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    next(site.glob("*.dist-info/METADATA")).unlink()
    registry.forget()
    assert by_name("extractor", "rest").distribution == "unknown"
    find("extractor", "brightness")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import a_library_that_is_not_here",
            "ModuleNotFoundError: No module named 'a_library_that_is_not_here'",
        ),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("Other = 1", "AttributeError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_import_fails_when_asked_for(install, source: str, says: str) -> None:
    install(
        "broken", {"extractor": {"broken": "broken_module:Flat"}}, {"broken_module": source}, version="0.9"
    )
    plugin = find("extractor", "broken")
    with pytest.raises(PluginError) as caught:
        load(plugin)
    assert "The extractor 'broken' of broken 0.9 cannot be imported" in caught.value.problem
    assert says in caught.value.problem
    assert "Reinstall or update broken" in caught.value.remedy


def test_a_plugins_own_words_on_its_import_are_kept(install) -> None:
    source = "from cbirbench.errors import MissingError\nraise MissingError('No libGL.', 'Install it.')"
    install("worded", {"extractor": {"worded": "worded_module:Flat"}}, {"worded_module": source})
    with pytest.raises(registry.CbirbenchError, match=r"^No libGL\. Install it\.$"):
        load(find("extractor", "worded"))


@pytest.mark.parametrize(
    ("kind", "source", "lacks"),
    [
        ("extractor", EXTRACTOR.replace("def embed", "def encode"), "lacks embed"),
        ("extractor", EXTRACTOR.replace("options_type = Options", ""), "lacks options_type"),
        (
            "extractor",
            EXTRACTOR.replace("options_type = Options", "options_type = dict"),
            "lacks options_type",
        ),
        (
            "extractor",
            "Flat = 3",
            "lacks options_type (a subclass of cbirbench.interfaces.Options), fingerprint",
        ),
        ("augmentation", EXTRACTOR, "lacks sample, apply"),
        ("metric", EXTRACTOR, "lacks needs, per_query"),
        ("benchmark", EXTRACTOR, "lacks defaults, synthetic, structures, sources, read"),
    ],
)
def test_what_the_interface_asks_for_must_be_there(
    install, kind: registry.Kind, source: str, lacks: str
) -> None:
    install("partial", {kind: {"partial": "partial_module:Flat"}}, {"partial_module": source})
    with pytest.raises(PluginError) as caught:
        load(find(kind, "partial"))
    assert f"is no {kind}: partial_module:Flat {lacks}" in caught.value.problem
    assert "cbirbench.interfaces" in caught.value.remedy


@pytest.mark.parametrize(
    ("stated", "problem", "remedy"),
    [
        ("", "does not say which version", "interface_version = 1"),
        ("interface_version = '1'", "says '1' where it should say which version", "interface_version = 1"),
        ("interface_version = True", "says True where it should say which version", "interface_version = 1"),
        ("interface_version = 0", "says 0 where it should say which version", "interface_version = 1"),
        (
            "interface_version = 2",
            "was written for version 2 of the interfaces; this cbirbench has version 1",
            "Update cbirbench",
        ),
    ],
)
def test_a_plugin_states_the_interface_that_it_was_written_for(
    install, stated: str, problem: str, remedy: str
) -> None:
    source = EXTRACTOR.replace("interface_version = 1", stated)
    install("dated", {"extractor": {"dated": "dated_module:Flat"}}, {"dated_module": source})
    with pytest.raises(PluginError) as caught:
        load(find("extractor", "dated"))
    assert problem in caught.value.problem and remedy in caught.value.remedy


def test_the_base_class_is_enough_but_for_the_work(install) -> None:
    source = """
from cbirbench.interfaces import Plugin
class Flat(Plugin):
    interface_version = 1
    def prepare(self, hu): ...
    def embed(self, images): ...
"""
    install("based", {"extractor": {"based": "based_module:Flat"}}, {"based_module": source})
    made = make(find("extractor", "based"), "the options", "the context")
    assert (made.options, made.context, made.fingerprint()) == ("the options", "the context", {})


def test_a_class_that_cannot_be_looked_at_is_the_plugins_fault(install) -> None:
    source = """
class Lazy(type):
    @property
    def options_type(cls):
        raise RuntimeError("torch is not there")
class Flat(metaclass=Lazy):
    pass
"""
    install("lazy", {"extractor": {"lazy": "lazy_module:Flat"}}, {"lazy_module": source})
    with pytest.raises(PluginError, match=r"lazy 1\.0 cannot be looked at: RuntimeError: torch is not there"):
        load(find("extractor", "lazy"))


@pytest.mark.parametrize(("base", "complete"), [("Plugin, Located", True), ("Plugin", False)])
def test_prepare_at_takes_the_place_of_prepare_in_those_that_opt_in(
    install, base: str, complete: bool
) -> None:
    source = f"""
from cbirbench.interfaces import Located, Plugin
class Flat({base}):
    interface_version = 1
    def prepare_at(self, hu, positions): ...
    def embed(self, images): ...
"""
    install("placed", {"extractor": {"placed": "placed_module:Flat"}}, {"placed_module": source})
    plugin = find("extractor", "placed")
    if complete:
        load(plugin)
    else:
        with pytest.raises(PluginError, match="lacks prepare"):
            load(plugin)


def test_a_plugin_that_ends_python_ends_no_run(install) -> None:
    source = EXTRACTOR.replace("context=None): ...", "context=None): raise SystemExit('no weights')")
    install("ending", {"extractor": {"ending": "ending_module:Flat"}}, {"ending_module": source})
    with pytest.raises(PluginError, match=r"could not be made: SystemExit: no weights"):
        make(find("extractor", "ending"), None)


def test_makes_an_instance(install) -> None:
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": EXTRACTOR})
    plugin = find("extractor", "flat")
    assert type(make(plugin, None, None)) is load(plugin)


def test_a_mistake_in_making_is_the_plugins(install) -> None:
    source = EXTRACTOR.replace("context=None): ...", "context=None): raise KeyError('layer4')")
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": source})
    with pytest.raises(
        PluginError, match=r"'flat' of flat-package 1\.0 could not be made: KeyError: 'layer4'"
    ):
        make(find("extractor", "flat"), None, None)


def test_an_error_with_a_remedy_passes_through_making(install) -> None:
    source = EXTRACTOR.replace(
        "context=None): ...", "context=None): raise DataError('No weights.', 'Give some.')"
    )
    source = "from cbirbench.errors import DataError\n" + source
    install("flat-package", {"extractor": {"flat": "flat_module:Flat"}}, {"flat_module": source})
    with pytest.raises(DataError, match=r"No weights\. Give some\."):
        make(find("extractor", "flat"), None, None)


def test_the_package_is_the_one_that_the_module_is_in() -> None:
    assert plugin_of("a", "cbirbench_hog:Hog").package == "cbirbench_hog"
    assert plugin_of("a", "cbirbench.metrics.knn_accuracy:KnnAccuracy").package == "cbirbench.metrics"


def test_the_source_digest_of_a_module_changes_with_its_file_only(install) -> None:
    site = install("flat-package", {}, {"flat_module": "A = 1\n", "neighbour": "B = 1\n"})

    def digest() -> str:
        source_digest.cache_clear()
        return source_digest("flat_module")

    first = digest()
    (site / "neighbour.py").write_text("B = 2\n")
    assert digest() == first
    (site / "flat_module.py").write_text("A = 2\n")
    assert digest() != first
    (site / "flat_module.py").write_text("A = 1\n")
    assert digest() == first


def test_the_source_digest_of_a_package_changes_with_every_file(install) -> None:
    site = install("flat-package", {})
    package = site / "flat_pack"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__.py", "extractor.py", "deep/__init__.py", "deep/windows.py"):
        (package / name).write_text("")
    digests = []
    for name, text in (
        ("extractor.py", ""),
        ("extractor.py", "A = 1"),
        ("deep/windows.py", "A = 1"),
        ("new.py", ""),
    ):
        (package / name).write_text(text)
        source_digest.cache_clear()
        digests.append(source_digest("flat_pack"))
    (package / "new.py").rename(package / "newer.py")
    source_digest.cache_clear()
    digests.append(source_digest("flat_pack"))
    assert len(set(digests)) == 5
    (package / "notes.txt").write_text("no source")
    source_digest.cache_clear()
    assert source_digest("flat_pack") == digests[-1]


def test_a_module_without_source_has_an_unknown_digest() -> None:
    assert source_digest("module_that_is_gone") == "unknown"


def test_the_entry_points_are_those_of_importlib(fake_plugins) -> None:
    names = {point.name for point in importlib.metadata.entry_points(group="cbirbench.extractors")}
    assert names == {name for plugin in installed("extractor") for name in plugin.names}
