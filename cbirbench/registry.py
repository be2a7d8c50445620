"""Plugins by name, read from entry points without importing anything.

An alias is one more entry point with the same value; the longest name is canonical. Built-in benchmarks and
metrics are entry points like everybody else's.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable, Sequence
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
def _entries(kind: Kind) -> tuple[tuple[str, str, str, str], ...]:
    """Entry points of a kind as (name, value, distribution, version), without repeats."""
    found = {
        (point.name, point.value.replace(" ", ""), point.dist.name or "unknown", point.dist.version or "")
        for point in importlib.metadata.entry_points(group=GROUPS[kind])
        if point.dist is not None
    }
    return tuple(sorted(found))


def forget() -> None:
    """Read the entry points anew, after something was installed."""
    importlib.invalidate_caches()
    _entries.cache_clear()


def installed(kind: Kind) -> list[Plugin]:
    """All plugins of a kind, by name. Imports none of them."""
    entries = _entries(kind)
    by_value: dict[tuple[str, str, str], list[str]] = {}
    owners: dict[str, set[str]] = {}
    for name, value, distribution, version in entries:
        by_value.setdefault((value, distribution, version), []).append(name)
        owners.setdefault(name, set()).add(distribution)
    plugins = []
    for (value, distribution, version), names in by_value.items():
        canonical, *aliases = sorted(names, key=lambda name: (-len(name), name))
        problem = _problem(value, names, owners)
        plugins.append(Plugin(kind, canonical, tuple(aliases), value, distribution, version, problem))
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def _problem(value: str, names: Sequence[str], owners: dict[str, set[str]]) -> str:
    for name in names:
        if not _NAME.fullmatch(name):
            return f"{name!r} is not a valid name: letters, digits, '.', '_' and '-' only"
        if len(owners[name]) > 1:
            return f"{' and '.join(sorted(owners[name]))} both provide {name!r}: uninstall one of them"
    module, _, attribute = value.partition(":")
    if not (module and attribute):
        return f"its entry point {value!r} names no class: it should read module:Class"
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return f"its module {module!r} is not there: reinstall the package"
    return ""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A sentence with the nearest of the candidates, or nothing."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}? " if close else ""


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
        raise PluginError(f"The {kind} {name!r} of {plugin.distribution} cannot be used: {plugin.problem}.")
    return plugin


def load(plugin: Plugin) -> Any:
    """Import a plugin's class and check that it has what its interface asks for.

    Raises:
        PluginError: The import fails, or something of the interface is missing.
    """
    origin = f"The {plugin.kind} {plugin.name!r} of {plugin.distribution} {plugin.version}"
    point = importlib.metadata.EntryPoint(plugin.name, plugin.value, GROUPS[plugin.kind])
    try:
        loaded = point.load()
    except CbirbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"{origin} cannot be imported: {type(error).__name__}: {error}.",
            f"Reinstall or update {plugin.distribution}, or leave {plugin.name!r} out.",
        ) from error
    from cbirbench.interfaces import Options

    options_type = getattr(loaded, "options_type", None)
    missing = [name for name in METHODS[plugin.kind] if not hasattr(loaded, name)]
    if not (isinstance(options_type, type) and issubclass(options_type, Options)):
        missing.insert(0, "options_type (a subclass of cbirbench.interfaces.Options)")
    if missing:
        raise PluginError(
            f"{origin} is no {plugin.kind}: {plugin.value} lacks {', '.join(missing)}.",
            "See cbirbench.interfaces for what each kind of plugin needs.",
        )
    return loaded


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
    except Exception as error:
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
