"""Plugins by name, read from entry points without importing anything.

An alias is one more entry point with the same value; the longest name is canonical. A name that is not valid
is no alias: it stands by itself, broken. Built-in benchmarks and metrics are entry points like everybody
else's.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cbirbench.errors import CbirbenchError, PluginError, UsageError

Kind = Literal["extractor", "augmentation", "metric", "benchmark"]

GROUPS: dict[Kind, str] = {
    "extractor": "cbirbench.extractors",
    "augmentation": "cbirbench.augmentations",
    "metric": "cbirbench.metrics",
    "benchmark": "cbirbench.benchmarks",
}

RESERVED_NAMES = ("run", "relax", "random-map", "center-map")
"""Names before the dot of ``--set`` that are the run's own, and the controls in a leaderboard."""

METHODS: dict[Kind, tuple[str, ...]] = {
    "extractor": ("fingerprint", "prepare", "embed"),
    "augmentation": ("fingerprint", "sample", "apply"),
    "metric": ("needs", "per_query"),
    "benchmark": ("defaults", "synthetic", "structures", "sources", "read"),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Plugin:
    """One installed plugin.

    Attributes:
        kind: What it is.
        name: Its canonical name.
        aliases: Its other names.
        value: The entry point, ``module:attribute``.
        distribution: The package that brings it.
        version: That package's version.
        problem: Why it cannot be used, as far as can be told without importing it; empty if nothing is known.
    """

    kind: Kind
    name: str
    aliases: tuple[str, ...]
    value: str
    distribution: str
    version: str
    problem: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the canonical one first."""
        return (self.name, *self.aliases)

    @property
    def package(self) -> str:
        """The package whose source decides what it computes: the one its module is in, or its only module."""
        module = self.value.partition(":")[0]
        return module.rpartition(".")[0] or module


@cache
def _entries() -> dict[Kind, tuple[tuple[str, str, str, str], ...]]:
    """Entry points by kind as (name, value, distribution, version), without repeats.

    One pass for all kinds; metadata, which holds a README, is read of distributions with plugins alone. One
    whose entry points cannot be read hides no other: it is listed under its own name, without a value.
    """
    found: dict[Kind, set[tuple[str, str, str, str]]] = {kind: set() for kind in GROUPS}
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        own = _points(distribution)
        if not own:
            continue
        name, version = _origin(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen and name != "unknown":  # what comes first on the path is what is imported
            continue
        seen.add(key)
        for kind, point, value in own:
            found[kind].add((point or name, value, name, version))
    return {kind: tuple(sorted(entries)) for kind, entries in found.items()}


def _points(distribution: importlib.metadata.Distribution) -> list[tuple[Kind, str, str]]:
    """A distribution's plugins as (kind, name, value), both empty where they cannot be read."""
    try:
        points = distribution.entry_points
    except UnicodeDecodeError:  # no text, so nobody can tell whether it names a plugin
        return []
    except Exception:
        text = distribution.read_text("entry_points.txt") or ""
        return [(kind, "", "") for kind, group in GROUPS.items() if f"[{group}]" in text]
    kinds = {group: kind for kind, group in GROUPS.items()}
    return [
        # Spaces are meaningless around a colon or bracket, and a mistake anywhere else.
        (kinds[point.group], point.name, re.sub(r"\s*([:\[])\s*", r"\1", point.value).strip())
        for point in points
        if point.group in kinds
    ]


def _origin(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """A distribution's name and version."""
    try:
        metadata = distribution.metadata
        return metadata["Name"] or "unknown", metadata["Version"] or ""
    except Exception:  # metadata that is gone, or no text
        return "unknown", ""


def forget() -> None:
    """Read the entry points anew, after something was installed."""
    importlib.invalidate_caches()
    _entries.cache_clear()


def installed(kind: Kind) -> list[Plugin]:
    """All plugins of a kind, by name. Imports none of them."""
    by_value: dict[tuple[str, str, str], list[str]] = {}
    plugins = []
    for name, value, distribution, version in _entries()[kind]:
        if _NAME.fullmatch(name):
            by_value.setdefault((value, distribution, version), []).append(name)
        else:  # it spoils none of the names beside it
            problem = f"{name!r} is not a valid name: letters, digits, '.', '_' and '-' only"
            plugins.append(Plugin(kind, name, (), value, distribution, version, problem))
    owners = _owners(kind)
    for (value, distribution, version), names in by_value.items():
        canonical, *aliases = sorted(names, key=lambda name: (-len(name), name))
        problem = _problem(value, names, owners)
        plugins.append(Plugin(kind, canonical, tuple(aliases), value, distribution, version, problem))
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def all_installed() -> list[Plugin]:
    """All plugins, by kind and name. Imports none of them."""
    return [plugin for kind in GROUPS for plugin in installed(kind)]


def _problem(value: str, names: Sequence[str], owners: Mapping[str, Sequence[str]]) -> str:
    """What can be told against a plugin without importing it."""
    if not value:
        return "its entry points cannot be read: reinstall or update it"
    clashes = [_clash(name, owners[name]) for name in names]
    return "; ".join(filter(None, clashes)) or _value_problem(value)


def _owners(kind: Kind) -> dict[str, list[str]]:
    """The distributions that provide each name, one as often as it does."""
    owners: dict[str, list[str]] = {}
    for name, _, distribution, _ in _entries()[kind]:
        owners.setdefault(name, []).append(distribution)
    return owners


def _clash(name: str, owners: Sequence[str]) -> str:
    """Why a name means no single plugin; empty where it does."""
    distributions = sorted(set(owners))
    if len(distributions) > 1:
        return f"{' and '.join(distributions)} both provide {name!r}: uninstall one of them"
    if len(owners) > 1:
        return f"{distributions[0]} provides {name!r} {len(owners)} times: reinstall or update it"
    return ""


def _value_problem(value: str) -> str:
    module, _, attribute = value.partition(":")
    attribute = re.sub(r"\[.*\]$", "", attribute)  # extras, an old addition to entry points
    if module and not all(part.isidentifier() for part in module.split(".")):
        return f"its entry point {value!r} names no module: it should read module:Class"
    if not (module and all(part.isidentifier() for part in attribute.split("."))):
        return f"its entry point {value!r} names no class: it should read module:Class"
    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # loaded already, and without a spec, as __main__ is
        there = True
    return "" if there else f"its module {module!r} is not there: reinstall the package"


def closest(name: str, candidates: Iterable[str]) -> str:
    """The candidate that is spelt most like the name, whatever the capitals; empty where none is like it."""
    spelt = {candidate.casefold(): candidate for candidate in sorted(candidates, reverse=True)}
    near = difflib.get_close_matches(name.casefold(), list(spelt), n=1, cutoff=0.5)
    return spelt[near[0]] if near else ""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A sentence with the nearest of the candidates, or nothing."""
    close = closest(name, candidates)
    return f"Did you mean {close!r}? " if close else ""


def find(kind: Kind, name: str) -> Plugin:
    """The plugin of that name or alias.

    Raises:
        UsageError: No plugin has the name.
        PluginError: The plugin is known to be unusable.
    """
    plugins = installed(kind)
    matches = [plugin for plugin in plugins if name in plugin.names]
    if not matches:
        names = sorted(known for plugin in plugins for known in plugin.names)
        listing = f"Installed: {', '.join(names)}." if names else f"No {kind} is installed."
        raise UsageError(
            f"There is no {kind} called {name!r}.",
            f"{nearest(name, names)}{listing} If a package brings it, install that into this environment: "
            "pip install PACKAGE (cbirbench's own: pip install -r plugins/requirements.txt).",
        )
    plugin = matches[0]
    if plugin.problem:
        # Of several reasons the one that is about the name that was asked for.
        of_name = _clash(name, _owners(kind)[name]) if plugin.value and _NAME.fullmatch(name) else ""
        raise PluginError(
            f"The {kind} {name!r} of {plugin.distribution} cannot be used: {of_name or plugin.problem}."
        )
    return plugin


def load(plugin: Plugin) -> Any:
    """Import a plugin's class and check that it has what its interface asks for.

    Raises:
        PluginError: The import fails, something of the interface is missing, or the plugin was written for
            a newer interface.
    """
    origin = f"The {plugin.kind} {plugin.name!r} of {plugin.distribution} {plugin.version}"
    point = importlib.metadata.EntryPoint(plugin.name, plugin.value, GROUPS[plugin.kind])
    try:
        loaded = point.load()
    except CbirbenchError:
        raise
    except (Exception, SystemExit) as error:  # a module that ends Python must not end the listing
        raise PluginError(
            f"{origin} cannot be imported: {type(error).__name__}: {error}.",
            f"Reinstall or update {plugin.distribution}, or leave {plugin.name!r} out.",
        ) from error
    try:
        _check_interface(loaded, plugin, origin)
    except CbirbenchError:
        raise
    except Exception as error:  # of a class whose attributes raise when they are looked at
        raise PluginError(
            f"{origin} cannot be looked at: {type(error).__name__}: {error}.",
            f"Reinstall or update {plugin.distribution}, or leave {plugin.name!r} out.",
        ) from error
    return loaded


def _check_interface(loaded: Any, plugin: Plugin, origin: str) -> None:
    from cbirbench.interfaces import Located, Options

    options_type = getattr(loaded, "options_type", None)
    missing = [name for name in METHODS[plugin.kind] if not hasattr(loaded, name)]
    if "prepare" in missing and isinstance(loaded, type) and issubclass(loaded, Located):
        missing.remove("prepare")  # `prepare_at` takes its place
    if not (isinstance(options_type, type) and issubclass(options_type, Options)):
        missing.insert(0, "options_type (a subclass of cbirbench.interfaces.Options)")
    if missing:
        raise PluginError(
            f"{origin} is no {plugin.kind}: {plugin.value} lacks {', '.join(missing)}.",
            "See cbirbench.interfaces for what each kind of plugin needs.",
        )
    _check_version(getattr(loaded, "interface_version", None), plugin, origin)


def _check_version(stated: object, plugin: Plugin, origin: str) -> None:
    from cbirbench.interfaces import INTERFACE_VERSION

    if type(stated) is not int or stated < 1:
        says = "does not say" if stated is None else f"says {stated!r} where it should say"
        raise PluginError(
            f"{origin} {says} which version of the interfaces it was written for.",
            f"Its class states it as a whole number: interface_version = {INTERFACE_VERSION}.",
        )
    if stated > INTERFACE_VERSION:
        raise PluginError(
            f"{origin} was written for version {stated} of the interfaces; this cbirbench has version "
            f"{INTERFACE_VERSION}.",
            f"Update cbirbench (pip install --upgrade cbirbench), or install an older {plugin.distribution}.",
        )


def make(plugin: Plugin, *arguments: Any) -> Any:
    """Make an instance of a plugin; what it raises by mistake is reported as its error.

    Raises:
        PluginError: The class raised something that is no cbirbench error.
    """
    plugin_class = load(plugin)
    try:
        return plugin_class(*arguments)
    except CbirbenchError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise  # an option's path, no mistake of the plugin's
        raise PluginError(
            f"The {plugin.kind} {plugin.name!r} of {plugin.distribution} {plugin.version} could not be made: "
            f"{type(error).__name__}: {error}.",
            "Report it to the plugin's authors, with its options.",
        ) from error


@cache
def source_digest(module: str) -> str:
    """SHA-256 of a module's Python source: what was cached with other code is not used again.

    Args:
        module: A module or package; for a package all its .py files count.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return "unknown"
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(origin.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
