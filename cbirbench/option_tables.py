"""Options as rows: what each takes in plain words, its default as one would type it, and where that is from.

The words come from the option's type and bounds. A type that neither of them describes says what it takes by
``Annotated[..., Field(title="LOW,HIGH in HU")]``.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from cbirbench.options import Options

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


@dataclass(frozen=True)
class OptionRow:
    """One option, all of it as text for people.

    Attributes:
        name: Its name after the dot of ``--set NAME.OPTION=VALUE``.
        kind: What it takes: ``whole number, 1 or more``.
        default: The `paper` profile's value as one would type it; ``none`` and an empty text are values too.
        unit: The value's unit; empty where it has none.
        source: Where the default comes from; empty where nobody said.
        profiles: Values that other profiles give it, typed like the default.
        description: What it sets.
        shapes_results: Whether a value can change a number.
        protocol: Whether a value other than the profile's departs from the protocol.
        required: Whether it has no default and must be given.
    """

    name: str
    kind: str
    default: str
    unit: str
    source: str
    profiles: Mapping[str, str]
    description: str
    shapes_results: bool
    protocol: bool
    required: bool = False

    @property
    def takes(self) -> str:
        """What it takes, with its unit and default: ``whole number, 1 or more (px; default 9)``."""
        return f"{self.kind} ({self.beside})"

    @property
    def beside(self) -> str:
        """Its unit, its default and what other profiles make of that: ``px; default 9``."""
        words = [self.unit_apart] if self.unit_apart else []
        words.append("it must be given" if self.required else f"default {self.default or 'empty'}")
        words += [f"{profile}: {value or 'empty'}" for profile, value in self.profiles.items()]
        return "; ".join(words)

    @property
    def unit_apart(self) -> str:
        """Its unit, unless `kind` says it: ``LOW,HIGH in HU`` does."""
        return "" if self.unit in re.findall(r"\w+", self.kind) else self.unit


def option_rows(options_type: type[Options]) -> list[OptionRow]:
    """The options of a type, in the order of their declaration; those that it inherits come first."""
    return [option_row(name, info) for name, info in options_type.model_fields.items()]


def option_row(name: str, info: FieldInfo) -> OptionRow:
    """One option of a type, from pydantic's description of its field."""
    notes = declared(info)
    required = info.is_required()
    return OptionRow(
        name=name,
        kind=info.title or _kind(info.annotation, _bounds(info.metadata)),
        default="" if required else typed(info.get_default(call_default_factory=True)),
        unit=notes.get("unit", ""),
        source=notes.get("source", ""),
        profiles={profile: typed(value) for profile, value in notes.get("profiles", {}).items()},
        description=info.description or "",
        shapes_results=notes.get("result", True),
        protocol=notes.get("protocol", True),
        required=required,
    )


def declared(info: FieldInfo) -> dict[str, Any]:
    """What `cbirbench.options.option` noted of a field: unit, source, profiles, protocol, result."""
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def typed(value: Any) -> str:
    """A value as one would type it after ``--set NAME.OPTION=``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return typed(value.value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, Sequence | Set) and not isinstance(value, str | bytes):
        return ",".join(typed(part) for part in value) or "none"
    return value.as_posix() if isinstance(value, PurePath) else str(value)


def _bounds(metadata: Iterable[Any]) -> dict[str, Any]:
    """The bounds among an annotation's metadata, whichever library's class carries them."""
    found: dict[str, Any] = {}
    for part in metadata:
        if isinstance(part, FieldInfo):
            found |= _bounds(part.metadata)
        else:
            values = {name: getattr(part, name, None) for name in _BOUNDS}
            found |= {name: value for name, value in values.items() if value is not None}
    return found


def _kind(annotation: Any, bounds: Mapping[str, Any]) -> str:
    """A type in words; `bounds` are those that stand beside it."""
    annotation = getattr(
        annotation, "__value__", annotation
    )  # what a `type X = ...` of Python 3.12 stands for
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *metadata = parts
        own_words = [part.title for part in metadata if isinstance(part, FieldInfo) and part.title]
        return own_words[-1] if own_words else _kind(inner, {**_bounds(metadata), **bounds})
    if origin in (typing.Union, types.UnionType):
        # None last, whatever the order of the declaration.
        kinds = [_kind(part, bounds) for part in parts if part is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds)) + (", or none" if types.NoneType in parts else "")
    if origin is Literal:
        return _one_of(parts)
    if (origin or annotation) in (tuple, list, set, frozenset):
        return _several(origin, parts, bounds)
    is_class = isinstance(annotation, type) and annotation is not Any  # which is one too
    return _single(annotation, bounds) if is_class else "any value"


def _several(origin: Any, parts: Sequence[Any], bounds: Mapping[str, Any]) -> str:
    """So many values, or any number of them."""
    if origin is tuple and parts[-1] is not Ellipsis:
        kinds = [_kind(part, {}) for part in parts]
        if len(set(kinds)) > 1:
            return "; then a comma and ".join(kinds)
        by = "a comma" if len(kinds) == 2 else "commas"
        return f"{len(kinds)} {_plural(kinds[0])}, separated by {by}" if len(kinds) > 1 else kinds[0]
    each = _plural(_kind(parts[0], {}) if parts else "value")
    none = "" if bounds.get("min_length") else ", or none"
    return f"{each}, separated by commas{_length(bounds, 'value')}{none}"


def _single(annotation: type, bounds: Mapping[str, Any]) -> str:
    if issubclass(annotation, Enum):
        return _one_of([member.value for member in annotation])
    pattern = bounds.get("pattern")
    matching = f" that matches {getattr(pattern, 'pattern', pattern)}" if pattern else ""
    words = {
        bool: "true or false",  # before int, which it is too
        int: f"whole number{_within(bounds)}",
        float: f"number{_within(bounds)}",
        str: f"text{_length(bounds, 'character')}{matching}",
        PurePath: "path",
    }
    # Of a class of somebody else's, its name is all that is known.
    unknown = " ".join(re.findall(r"[A-Z]*[^A-Z_]+|[A-Z]+", annotation.__name__)).lower()
    return next((text for base, text in words.items() if issubclass(annotation, base)), unknown)


def _one_of(values: Sequence[Any]) -> str:
    words = [typed(value) for value in values]
    return f"one of {', '.join(words)}" if len(words) > 1 else f"only {words[0]}"


def _plural(kind: str) -> str:
    if kind == "text" or kind.startswith(("text ", "text,")):
        return kind.replace("text", "texts", 1)
    for single in ("whole number", "number", "path", "value"):
        if kind == single or kind.startswith((f"{single} ", f"{single},")):
            return kind.replace(single, f"{single}s", 1)
    return f"values, each {kind}"


def _within(bounds: Mapping[str, Any]) -> str:
    """Bounds of a number, as what follows the noun."""
    low, high = bounds.get("ge"), bounds.get("le")
    if low is not None and high is not None:
        words = f" in {typed(low)}..{typed(high)}"
    else:
        ends = [
            phrase.format(typed(bounds[name]))
            for name, phrase in (
                ("gt", "above {}"),
                ("ge", "{} or more"),
                ("le", "{} or less"),
                ("lt", "below {}"),
            )
            if name in bounds
        ]
        words = " and ".join(ends)
        words = f"{' ' if words.startswith(('above', 'below')) else ', '}{words}" if words else ""
    return words + (f", a multiple of {typed(bounds['multiple_of'])}" if "multiple_of" in bounds else "")


def _length(bounds: Mapping[str, Any], noun: str) -> str:
    """How many characters or values, as what follows the noun."""
    least, most = bounds.get("min_length") or 0, bounds.get("max_length")
    if most is not None:
        return f", {least} to {most} {noun}s" if least != most else f", {most} {noun}s"
    if least <= 1:
        return ", not empty" if least else ""
    return f", {least} {noun}s or more"
