"""Installed plugins for the terminal: the list of all, and a page on one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cbirbench.commands.speaking import console
from cbirbench.plain_text import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from cbirbench.option_tables import OptionRow
    from cbirbench.plugin_facts import Listed, PluginFacts


def literally(text: str, style: str = "") -> Text:
    """Somebody else's text on one line, as it is: no markup in it acts."""
    from rich.text import Text

    return Text(printable(" ".join(text.split())), style=style)  # measured as it will be shown


def print_list(entries: Iterable[Listed]) -> None:
    """Print the table of plugins; the broken ones in red."""
    from rich.table import Table

    table = Table("kind", box=None)
    for heading in ("name", "aliases", "distribution", "version"):
        table.add_column(heading, overflow="fold")  # a name that is cut is another
    for entry in entries:
        plugin = entry.plugin
        cells = (plugin.kind, plugin.name, ", ".join(plugin.aliases), plugin.distribution, plugin.version)
        table.add_row(*map(literally, cells), style="red" if entry.problem else None)
    console(stderr=False).print(table)


def print_page(facts: PluginFacts) -> None:
    """Print what a plugin is, and its options as a table that 80 columns hold."""
    from rich.table import Table

    output = console(stderr=False)
    also = f" (also {', '.join(facts.aliases)})" if facts.aliases else ""
    what = "no plugin, but options of cbirbench itself" if facts.kind == "run" else facts.kind
    output.print(literally(facts.name + also, "bold"), f"- {what}", highlight=False)
    if facts.purpose:
        output.print(literally(facts.purpose))
    grid = Table.grid(padding=(0, 2))
    for name, text in _lines(facts):
        if text:
            grid.add_row(name, literally(text))
    output.print(grid)
    if facts.problem:
        return
    if not facts.options:
        output.print("\nIt has no options.")
        return
    output.print()
    output.print(literally(f"Options, set with --set {facts.name}.OPTION=VALUE:"))
    output.print(_options(facts.options))


def _lines(facts: PluginFacts) -> Iterable[tuple[str, str]]:
    package = facts.package
    yield "distribution", f"{package.name} {package.version}"
    yield "summary", package.summary
    yield "licence", package.licence
    yield "authors", package.authors
    yield "home page", package.home_page
    yield "entry point", facts.value
    yield "interface", f"version {facts.interface_version}" if facts.interface_version is not None else ""
    yield "needs", facts.needs
    yield "training", "learns from the gallery before it is evaluated" if facts.trains else ""
    yield "explaining", "has a cheaper twin for explanations" if facts.cheaper_for_explanations else ""
    yield "position", "is told where in its scan a slice lies" if facts.located else ""
    yield "floor", "others are to rise above it: it looks at no anatomy" if facts.floor else ""
    if facts.family:
        members = " and ".join(facts.family_members)
        yield "family", f"--set {facts.family}.OPTION=VALUE sets an option of {members}"
    changes = [
        f"{name}.{key}={value}" for name, values in facts.defaults.items() for key, value in values.items()
    ]
    yield "sets", ", ".join(changes)


def _options(rows: Sequence[OptionRow]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("option", overflow="fold", max_width=22)
    table.add_column("default", overflow="fold", max_width=18)
    table.add_column("takes, and what it sets", overflow="fold", ratio=1)
    for row in rows:
        default = "" if row.required else row.default or "(empty)"
        unit = f" ({row.unit_apart})" if row.unit_apart else ""
        texts = [row.kind + unit, row.description, _beside(row)]
        cell = Text("\n").join(literally(text) for text in texts if text)
        table.add_row(literally(row.name, "bold"), literally(default), cell)
    return table


def _beside(row: OptionRow) -> str:
    words = [f"Source: {row.source}."] if row.source else []
    words += [f"In {profile}: {value or '(empty)'}." for profile, value in row.profiles.items()]
    if not row.shapes_results:
        words.append("Changes no result.")
    elif not row.protocol:
        words.append("No departure from the protocol.")
    return " ".join(words)
