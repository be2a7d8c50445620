"""Names for new plugins: what is a name, why a text is none, and what might do instead."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cbirbench import registry
from cbirbench.errors import UsageError
from cbirbench.registry import Kind

LONGEST = 32
"""Characters of the longest name: it is part of file names, class names and options."""

_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class PluginName:
    """A plugin's name as users type it, and how its parts are called after it.

    Attributes:
        dashed: The name itself, ``my-net``.
    """

    dashed: str

    @property
    def distribution(self) -> str:
        """``cbirbench-my-net``, the folder's name as well."""
        return f"cbirbench-{self.dashed}"

    @property
    def underscored(self) -> str:
        """``my_net``, in names of modules."""
        return self.dashed.replace("-", "_")

    @property
    def module(self) -> str:
        """``cbirbench_my_net``."""
        return f"cbirbench_{self.underscored}"

    @property
    def class_name(self) -> str:
        """``MyNet``."""
        return "".join(part.capitalize() for part in self.dashed.split("-"))


def checked(text: str, kind: Kind, in_use: Collection[str] = ()) -> PluginName:
    """Take a text as the name of a new plugin.

    Args:
        text: What the user typed.
        kind: What the plugin is to be.
        in_use: Names of classes that the plugin's own may not hide.

    Raises:
        UsageError: It is no name, or the name is taken; the remedy has one that is free.
    """
    fault = _fault(text, in_use)
    if not fault:
        return PluginName(text)
    shown = repr(text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST]}...")
    free = next(name for name in _similar(text, kind) if not _fault(name, in_use))
    raise UsageError(
        f"{shown} cannot be the name of a new {kind}: {fault}.",
        f"Take {free!r}, for example. A name has lower-case letters, digits and single hyphens between them, "
        f"begins with a letter, and is at most {LONGEST} characters long.",
    )


def _fault(text: str, in_use: Collection[str]) -> str:
    """Why it cannot be the name; nothing where it can."""
    name = PluginName(text)
    faults = {
        "it is not of the right form": not _FORM.fullmatch(text),
        f"it has {len(text)} characters": len(text) > LONGEST,
        "every plugin's package begins with cbirbench- anyway": f"{text}-".startswith("cbirbench-"),
        "cbirbench itself uses it": text in registry.RESERVED_NAMES,
        "it is a word of Python's": keyword.iskeyword(text) or keyword.iskeyword(name.class_name),
        f"its class, {name.class_name}, would hide another": (
            name.class_name in in_use or hasattr(builtins, name.class_name)
        ),
    }
    return next((fault for fault, holds in faults.items() if holds), "") or _taken(name)


def _taken(name: PluginName) -> str:
    # By --set NAME.OPTION=VALUE a plugin is known whatever its kind, so no two share a name.
    for kind in registry.GROUPS:
        for plugin in registry.installed(kind):
            if name.dashed in plugin.names:
                return f"{plugin.distribution} has {_article(kind)} {kind} of that name"
    if importlib.util.find_spec(name.module) is not None:
        return f"there is a module {name.module} already, which it would hide"
    return ""


def _article(kind: Kind) -> str:
    return "an" if kind[0] in "ae" else "a"


def _similar(text: str, kind: Kind) -> Iterator[str]:
    """Names like a text, the nearest first; it never ends."""
    plain = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode()
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).lower()
    name = re.sub(r"[^a-z0-9]+", "-", parted).strip("-")
    name = re.sub(r"^(cbirbench(-|$))+", "", name)
    if not name:
        name = f"my-{kind}"
    if not name[0].isalpha():
        name = f"{kind}-{name}"
    yield name[:LONGEST].strip("-")
    for ending in (f"-{kind}", *(f"-{number}" for number in range(2, 10_000))):
        yield name[: LONGEST - len(ending)].strip("-") + ending
