"""The plugin that a name means, of whatever kind. Nothing is imported for it: a slip is told at once."""

from __future__ import annotations

from cbirbench import registry
from cbirbench.errors import UsageError
from cbirbench.registry import Kind, Plugin


def plugin_called(name: str, kind: Kind | None = None) -> Plugin:
    """The one plugin of a name, of whatever kind unless that is said, usable or not.

    Raises:
        UsageError: There is none, or there are several of different kinds.
    """
    kinds = list(registry.GROUPS) if kind is None else [kind]
    found = {
        one: plugin for one in kinds for plugin in reversed(registry.installed(one)) if name in plugin.names
    }
    if len(found) > 1:
        raise UsageError(
            f"There are several plugins called {name!r}: {', '.join(found)}.",
            f"Say which is meant: --kind {next(iter(found))}",
        )
    if found:
        return next(iter(found.values()))
    known = sorted({other for one in kinds for plugin in registry.installed(one) for other in plugin.names})
    raise UsageError(
        f"There is no {kind or 'plugin'} called {name!r}.",
        f"{registry.nearest(name, known)}`cbirbench plugins list` lists what is installed. If a package "
        "brings it, install that into this environment: pip install PACKAGE",
    )
