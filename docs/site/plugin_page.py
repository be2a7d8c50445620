"""The catalogue of plugins, from what the installed distributions say of themselves."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import markup

from cbirbench import registry
from cbirbench.option_tables import OptionRow, option_rows
from cbirbench.options import Options
from cbirbench.plugin_facts import first_paragraph, own_options

TITLES: dict[registry.Kind, str] = {
    "extractor": "Extractors",
    "augmentation": "Augmentations",
    "metric": "Metrics",
    "benchmark": "Benchmarks",
}


def distributions(root: Path) -> dict[str, str]:
    """Names of the repository's distributions, each with its folder, the core's empty."""
    found = {}
    for file in (root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))):
        folder = file.parent.relative_to(root).as_posix()
        found[tomllib.loads(file.read_text("utf-8"))["project"]["name"]] = "" if folder == "." else folder
    return found


def missing(root: Path) -> list[str]:
    """Names that the repository's distributions declare and that are not installed as they declare them."""
    problems = []
    for file in (root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))):
        groups = tomllib.loads(file.read_text("utf-8"))["project"].get("entry-points", {})
        for kind, group in registry.GROUPS.items():
            known = {name for plugin in registry.installed(kind) for name in plugin.names}
            problems += [
                f"{file.relative_to(root)}: the {kind} {name!r} is not installed "
                "(pip install -r plugins/requirements.txt)"
                for name in sorted(set(groups.get(group, {})) - known)
            ]
    return problems


def page(root: Path) -> str:
    """Every plugin of the repository's distributions with its options, by kind.

    Raises:
        PluginError: A plugin cannot be loaded.
    """
    folders = distributions(root)
    parts = [
        "# Plugin catalogue\n\nGenerated from the plugins of this repository; `cbirbench plugins list` shows "
        "all that are installed. `--set NAME.OPTION=VALUE` sets an option, by any of a plugin's names.\n"
    ]
    for kind, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [
            _plugin(plugin, registry.load(plugin), folders[plugin.distribution])
            for plugin in registry.installed(kind)
            if plugin.distribution in folders
        ]
    parts.append("## Runs and explanations\n\nNo plugins, but set in the same way.\n")
    for name, options in own_options().items():
        parts.append(f"### {name}\n\n{_summary(options)}\n\n{_options(options)}")
    return "\n".join(parts)


def _plugin(plugin: registry.Plugin, plugin_class: Any, folder: str) -> str:
    home = f"[{plugin.distribution}](../{folder}/README.md)" if folder else plugin.distribution
    facts = [f"From {home}", f"interface version {plugin_class.interface_version}"]
    if plugin.aliases:
        facts.append(f"also called {' and '.join(map(markup.code, plugin.aliases))}")
    family = plugin_class.options_type.family
    if family and family not in plugin.names:
        facts.append(f"options also through the family {markup.code(family)}")
    return "\n\n".join(
        [
            f"### {plugin.name} {{: #{plugin.kind}-{plugin.name} }}",
            _summary(plugin_class),
            f"{'; '.join(facts)}.",
            _options(plugin_class.options_type),
        ]
    )


def _summary(documented: Any) -> str:
    return markup.text(first_paragraph(documented))


def _options(options_type: type[Options]) -> str:
    rows = option_rows(options_type)
    if not rows:
        return "It has no options.\n"
    return markup.table(
        ("Option", "What it sets", "Takes", "Default", "Source"),
        [
            (
                markup.code(row.name, whole=True),
                markup.text(row.description.replace("``", "`")),
                markup.text(row.kind + (f" ({row.unit_apart})" if row.unit_apart else "")),
                _default(row),
                markup.text(row.source),
            )
            for row in rows
        ],
    )


def _default(row: OptionRow) -> str:
    if row.required:
        return "*must be given*"
    values = [markup.code(row.default or '""')]
    values += [f"{markup.text(profile)}: {markup.code(value)}" for profile, value in row.profiles.items()]
    return "<br>".join(values)
