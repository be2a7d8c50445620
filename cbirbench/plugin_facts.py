"""What an installed plugin is: what its distribution says of it, and, once imported, what it is and takes."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import getaddresses
from typing import TYPE_CHECKING, Any

from cbirbench import registry
from cbirbench.errors import CbirbenchError, UsageError
from cbirbench.registry import Kind, Plugin

if TYPE_CHECKING:
    from cbirbench.option_tables import OptionRow
    from cbirbench.options import Options

OWN_NAMES = ("run", "relax")
"""Names besides plugins' that ``--set NAME.OPTION=VALUE`` takes."""

HOME_LABELS = ("homepage", "home", "repository", "source", "sourcecode", "github", "documentation")
"""Labels of a project's links, the first found being its home page."""


@dataclass(frozen=True)
class Package:
    """What a distribution's metadata say; empty where they say nothing."""

    name: str
    version: str
    summary: str = ""
    licence: str = ""
    home_page: str = ""
    authors: str = ""


@dataclass(frozen=True)
class PluginFacts:
    """One plugin, or the run itself.

    Attributes:
        kind: A plugin's kind; ``run`` for what is no plugin.
        name: Its canonical name.
        aliases: Its other names.
        value: Its entry point.
        package: The distribution that brings it.
        problem: Why it cannot be used; then nothing of what follows is known.
        interface_version: The version of the interfaces that it was written for.
        purpose: The first paragraph of its class's docstring.
        family: The name that sets its options together with others'; empty where there is none.
        family_members: All plugins of that family.
        trains: Whether it learns from the gallery.
        cheaper_for_explanations: Whether it has a cheaper twin for the many passes of an explanation.
        located: Whether it is told where in its scan a slice lies.
        floor: Whether it is one that others are to rise above.
        needs: What a metric is computed from.
        defaults: What a benchmark sets for others, by name or family, as one would type it.
        options: Its options.
    """

    kind: str
    name: str
    aliases: tuple[str, ...]
    value: str
    package: Package
    problem: str = ""
    interface_version: int | None = None
    purpose: str = ""
    family: str = ""
    family_members: tuple[str, ...] = ()
    trains: bool = False
    cheaper_for_explanations: bool = False
    located: bool = False
    floor: bool = False
    needs: str = ""
    defaults: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    options: Sequence[OptionRow] = ()


def own_options() -> dict[str, type[Options]]:
    """Options of what is no plugin, by the names of `OWN_NAMES`."""
    from cbirbench.explain.relax import RelaxOptions
    from cbirbench.settings import RunOptions

    return dict(zip(OWN_NAMES, (RunOptions, RelaxOptions), strict=True))


def package_of(plugin: Plugin) -> Package:
    """What the metadata of a plugin's distribution say. Imports nothing of it."""
    try:
        found = importlib.metadata.metadata(plugin.distribution)
    except Exception:  # gone, or no text
        return Package(plugin.distribution, plugin.version)

    def all_of(field: str) -> list[str]:
        return [str(text).strip() for text in found.get_all(field) or [] if str(text).strip()]

    def first(texts: Iterable[str]) -> str:
        return next(iter(texts), "")

    classified = [
        text.rpartition("::")[2].strip() for text in all_of("Classifier") if text.startswith("License")
    ]
    # An old License field may hold the whole text of one.
    licences = [
        *all_of("License-Expression"),
        *(text.splitlines()[0] for text in all_of("License")),
        *classified,
    ]
    return Package(
        plugin.distribution,
        plugin.version,
        summary=first(all_of("Summary")),
        licence=first(licences),
        home_page=first([*all_of("Home-page"), *_links(all_of("Project-URL"))]),
        authors=", ".join([*all_of("Author"), *_people(all_of("Author-email"))]),
    )


def _links(texts: Iterable[str]) -> list[str]:
    """Addresses of ``label, address``, by how likely the label is that of a home page."""
    links = [text.partition(",")[::2] for text in texts]
    places = {"".join(filter(str.isalpha, label.lower())): address.strip() for label, address in links}
    return [places[label] for label in HOME_LABELS if label in places]


def _people(texts: Sequence[str]) -> list[str]:
    """Names of ``name <address>``; where there is no name, the address."""
    return [name or address for name, address in getaddresses(list(texts)) if name or address]


def import_problem(plugin: Plugin) -> str:
    """Why a plugin cannot be used, importing it where that is not known without; empty where it can."""
    if plugin.problem:
        return plugin.problem
    try:
        registry.load(plugin)
    except CbirbenchError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Listed:
    """A plugin in the list of all.

    Attributes:
        plugin: The plugin.
        problem: Why it cannot be used; empty where nothing is known against it.
        interface_version: The version of the interfaces it was written for, where it was imported.
    """

    plugin: Plugin
    problem: str
    interface_version: int | None = None


def listing(*, check: bool = False) -> list[Listed]:
    """Every installed plugin, by kind and name. Imports none, unless `check` asks what else is wrong."""
    if not check:
        return [Listed(plugin, plugin.problem) for plugin in registry.all_installed()]
    listed = []
    for plugin in registry.all_installed():
        problem = import_problem(plugin)
        version = None if problem else registry.load(plugin).interface_version
        listed.append(Listed(plugin, problem, version))
    return listed


def families() -> dict[str, tuple[str, ...]]:
    """Names of the plugins of each family. Imports every plugin; what cannot be imported is left out."""
    members: dict[str, list[str]] = {}
    for plugin in registry.all_installed():
        if import_problem(plugin):
            continue
        family = registry.load(plugin).options_type.family
        if family and isinstance(family, str):
            members.setdefault(family, []).append(plugin.name)
    return {family: tuple(names) for family, names in members.items()}


def called(name: str, kind: Kind | None = None) -> list[PluginFacts]:
    """Everything of that name: plugins, what is no plugin (``run``, ``relax``), or the plugins of a family.

    Raises:
        UsageError: There is nothing of that name, or not of that kind.
    """
    plugins = [plugin for plugin in registry.all_installed() if kind in (None, plugin.kind)]
    found = [_own(name)] if name in OWN_NAMES and kind is None else []
    found += [facts_of(plugin) for plugin in plugins if name in plugin.names]
    if not found and (members := families().get(name)):
        found = [facts_of(plugin) for plugin in plugins if plugin.name in members]
    if found:
        return found
    others = sorted({plugin.kind for plugin in registry.all_installed() if name in plugin.names})
    if others or name in OWN_NAMES:
        what = f"{name!r} is no {kind}."
        raise UsageError(what, f"Leave --kind out{f', or say --kind {others[0]}' if others else ''}.")
    names = {known for plugin in plugins for known in plugin.names}
    names |= families().keys() | set(OWN_NAMES) if kind is None else set()
    raise UsageError(
        f"{f'No {kind}' if kind else 'Nothing'} is called {name!r}.",
        f"{registry.nearest(name, names)}`cbirbench plugins list` shows all names; options of the run itself "
        "are those of run and relax.",
    )


def facts_of(plugin: Plugin) -> PluginFacts:
    """What a plugin is. Imports it, unless it is known to be broken, which is one of the facts."""
    known = (plugin.kind, plugin.name, plugin.aliases, plugin.value, package_of(plugin))
    if problem := import_problem(plugin):
        return PluginFacts(*known, problem=problem)
    try:
        return PluginFacts(*known, **_described(plugin, registry.load(plugin)))
    except Exception as error:  # whatever a class of somebody else's may raise when it is looked at
        return PluginFacts(*known, problem=f"It cannot be described: {type(error).__name__}: {error}.")


def _described(plugin: Plugin, plugin_class: Any) -> dict[str, Any]:
    from cbirbench.interfaces import Explainable, Floor, Located, Trainable
    from cbirbench.option_tables import option_rows, typed

    options_type = plugin_class.options_type
    own_class = plugin_class if isinstance(plugin_class, type) else type(plugin_class)
    defaults = plugin_class.defaults if plugin.kind == "benchmark" else {}
    return {
        "interface_version": plugin_class.interface_version,
        "purpose": first_paragraph(plugin_class),
        "family": options_type.family,
        "family_members": families().get(options_type.family, ()) if options_type.family else (),
        "trains": issubclass(own_class, Trainable),
        "cheaper_for_explanations": issubclass(own_class, Explainable),
        "located": issubclass(own_class, Located),
        "floor": issubclass(own_class, Floor),
        "needs": str(plugin_class.needs) if plugin.kind == "metric" else "",
        "defaults": {
            name: {option: typed(value) for option, value in values.items()}
            for name, values in defaults.items()
        },
        "options": tuple(option_rows(options_type)),
    }


def _own(name: str) -> PluginFacts:
    from cbirbench import __version__
    from cbirbench.option_tables import option_rows

    options_type = own_options()[name]
    return PluginFacts(
        "run",
        name,
        (),
        f"{options_type.__module__}:{options_type.__qualname__}",
        Package("cbirbench", __version__),
        purpose=first_paragraph(options_type),
        options=tuple(option_rows(options_type)),
    )


def first_paragraph(documented: Any) -> str:
    """The first paragraph of a docstring on one line; empty where it has none of its own."""
    text = inspect.cleandoc(getattr(documented, "__doc__", None) or "")
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")
