"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import markup
import typer

from cbirbench.cli import app

_EXTRA = re.compile(r"(?P<help>.*?)(?:(?:^|  )\[(?P<extra>[^\]]*)\])?", re.DOTALL)


def page() -> str:
    """Every command with its arguments and options, as `--help` words them."""
    sections = "\n".join(
        _section(command, context) for command, context in commands(typer.main.get_command(app))
    )
    said = "Generated from the program; `cbirbench COMMAND --help` says the same."
    return f"# Command line\n\n{said}\n\n{sections}"


def commands(command: Any, parent: Any = None, name: str = "cbirbench") -> Iterator[tuple[Any, Any]]:
    """A command and those below it, each with the context that names it."""
    context = command.context_class(command, info_name=name, parent=parent)
    yield command, context
    for below, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, context, below)


def _section(command: Any, context: Any) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [
        f"## {context.command_path}\n",
        f"{markup.text(command.help or '')}\n",
        markup.fence(usage, "text"),
    ]
    for kind, title in (("argument", "Argument"), ("option", "Option")):
        rows = [
            _row(parameter, parameter.get_help_record(context))
            for parameter in command.params
            if parameter.param_type_name == kind and not parameter.hidden
        ]
        if rows:
            parts.append(markup.table((title, "Takes", "What it does", "Default, bounds"), rows))
    return "\n".join(parts)


def _row(parameter: Any, record: tuple[str, str]) -> tuple[str, str, str, str]:
    """Its names, what it takes, what it does, and its default and bounds, from its line of `--help`."""
    if parameter.param_type_name == "option":
        names = [", ".join(spelt) for spelt in (parameter.opts, parameter.secondary_opts) if spelt]
        name = " / ".join(names)
        takes = record[0].removeprefix(name).strip()
    else:
        name, _, takes = record[0].partition(" ")
    words = _EXTRA.fullmatch(record[1])
    assert words is not None, "it matches any text"
    about = markup.text(words["help"]), markup.text(words["extra"] or "")
    return markup.code(name, whole=True), markup.code(takes), *about
