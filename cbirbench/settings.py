"""Where an option's value comes from: the profile, the benchmark's defaults, then the user's ``--set``."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cbirbench.errors import PluginError, UsageError
from cbirbench.option_tables import declared, option_row
from cbirbench.options import Options, ProfileName, option
from cbirbench.registry import closest, nearest

PROFILES: tuple[ProfileName, ...] = ("paper", "released-code")

PYDANTICS_OWN = (
    *("int_", "float_", "bool_", "string_", "literal_", "path_", "enum", "tuple_", "list_", "set_"),
    *("frozen_set_", "greater_", "less_", "multiple_", "too_", "missing", "none_"),
)
"""How pydantic's errors begin that speak of types of Python: what the option takes is said in other words."""


class RunOptions(Options):
    """Options of the run itself, set with ``--set run.OPTION=VALUE``."""

    runs: int = option(
        20,
        description="How often each trainable extractor is trained and evaluated.",
        source="paper, section 8; the released program makes 5",
        profiles={"released-code": 5},
        ge=1,
    )
    distance: Literal["euclidean", "cosine"] = option(
        "euclidean", description="Distance between embeddings.", source="released program"
    )
    batch_size: int = option(32, description="Slices embedded at once.", unit="slices", protocol=False, ge=1)
    eval_every: int = option(
        0,
        description="Epochs between evaluations while training, for curves; 0: none.",
        unit="epochs",
        source="figures 6 and 7",
        protocol=False,
        ge=0,
    )
    explain_every: int = option(
        0,
        description="The same for metrics on explanations, which cost thousands of embeddings each.",
        unit="epochs",
        source="figures 6 and 7",
        protocol=False,
        ge=0,
    )


@dataclass(frozen=True)
class Assignment:
    """One ``NAME.OPTION=VALUE`` of the user."""

    name: str
    option: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}.{self.option}={self.value}"


def parse_assignments(texts: Iterable[str]) -> list[Assignment]:
    """Read ``NAME.OPTION=VALUE``.

    Raises:
        UsageError: A text has another form.
    """
    assignments = []
    for text in texts:
        target, equals, value = text.partition("=")
        name, dot, option_name = target.strip().rpartition(".")
        if not (equals and dot and name and option_name):
            raise UsageError(
                f"--set takes NAME.OPTION=VALUE, got {text!r}.",
                "For example: --set relax.masks=500 --set simsiam.epochs=20",
            )
        assignments.append(Assignment(name, option_name.replace("-", "_"), value.strip()))
    return assignments


@dataclass(frozen=True)
class Departure:
    """One option whose value is not the profile's."""

    plugin: str
    option: str
    profile_value: Any
    value: Any
    set_by: Literal["benchmark", "user"]


@dataclass
class Settings:
    """Resolves options and keeps account of what departed from the profile and which assignments were used.

    Args:
        profile: The profile that gives the first values.
        benchmark_defaults: The benchmark's own, by plugin name or family.
        assignments: The user's.
    """

    profile: ProfileName
    benchmark_defaults: Mapping[str, Mapping[str, Any]]
    assignments: Sequence[Assignment]
    departures: dict[tuple[str, str], Departure] = field(default_factory=dict)
    used: set[Assignment] = field(default_factory=set)
    seen: dict[str, type[Options]] = field(default_factory=dict)
    """What was resolved so far, by name: whose option a misplaced one may be."""

    def resolve(
        self,
        options_type: type[Options],
        names: Sequence[str],
        *,
        variant: str = "",
        departs: bool = True,
        **fixed: Any,
    ) -> Options:
        """The options of one plugin.

        Args:
            options_type: Their type.
            names: The plugin's names, the canonical one first.
            variant: The name of a variant of it: what is set for the plugin holds for the variant, unless
                something else is set for the variant itself.
            departs: Whether values other than the profile's are departures from it.
            **fixed: Values from a flag of the command line that outrank everything.

        Raises:
            UsageError: An assignment names no option of this type, or its value does not fit.
        """
        fields = options_type.model_fields
        called = variant or names[0]
        self.seen[called] = options_type
        values = profile_values(options_type, self.profile)
        origin: dict[str, Literal["benchmark", "user"]] = {}
        # A family may go by one member's alias; it then still comes before that member's own name.
        for layer in dict.fromkeys((options_type.family, *names)):
            for key, value in self.benchmark_defaults.get(layer, {}).items():
                if key not in fields:
                    raise PluginError(
                        f"The benchmark sets {layer}.{key}, but {names[0]} has no such option.",
                        "Report it to the benchmark's authors; the versions may not go together.",
                    )
                values[key], origin[key] = value, "benchmark"
        layers = [{options_type.family}, {*names} - {options_type.family}, {variant}]
        for given in [given for layer in layers for given in self.assignments if given.name in layer]:
            if given.option not in fields:
                shown = names[0] if variant else given.name
                raise unknown_option(given, options_type, self.seen, shown=shown)
            values[given.option], origin[given.option] = (
                parse_value(given.value, fields[given.option]),
                "user",
            )
            self.used.add(given)
        for key, value in fixed.items():
            if value is not None:
                values[key], origin[key] = value, "user"
        options = validated(options_type, values, called, shown=names[0])
        if departs:
            self._note_departures(options, called, origin)
        return options

    def _note_departures(
        self, options: Options, name: str, origin: Mapping[str, Literal["benchmark", "user"]]
    ) -> None:
        expected = validated(type(options), profile_values(type(options), self.profile), name)
        for key, set_by in origin.items():
            if not declared(type(options).model_fields[key]).get("protocol", True):
                continue
            before, value = getattr(expected, key), getattr(options, key)
            if before != value:
                self.departures[name, key] = Departure(name, key, before, value, set_by)

    def disregard(self, name: str, option: str = "") -> None:
        """Strike departures that change nothing in this run: of one option, or of all options of a plugin."""
        self.departures = {
            key: departure
            for key, departure in self.departures.items()
            if key[0] != name or (option and key[1] != option)
        }

    def title(self) -> str:
        """The profile and what departs from it: ``paper (changed: backbone, masks)``."""
        changed = sorted({departure.option for departure in self.departures.values()})
        return f"{self.profile} (changed: {', '.join(changed)})" if changed else self.profile


def profile_values(options_type: type[Options], profile: ProfileName) -> dict[str, Any]:
    """Each option's value in a profile."""
    values = {}
    for name, info in options_type.model_fields.items():
        values[name] = (
            declared(info).get("profiles", {}).get(profile, info.get_default(call_default_factory=True))
        )
    return values


def parse_value(text: str, info: FieldInfo) -> Any:
    """Bring a text into the shape that the option's type starts from; pydantic does the rest."""
    kinds = _alternatives(info.annotation)
    if type(None) in kinds and text.lower() in ("none", "null", ""):
        return None
    # Not for an empty text: that is rather a shell's variable which nobody set.
    if text.lower() == "none" and any(_any_number(kind) for kind in kinds):
        return []
    if any((get_origin(kind) or kind) in (tuple, list, set, frozenset) for kind in kinds):
        return [part.strip() for part in text.split(",")]
    return text


def _any_number(kind: Any) -> bool:
    """Whether a type is that of any number of values."""
    return (get_origin(kind) or kind) in (list, set, frozenset) or get_args(kind)[-1:] == (...,)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) in (typing.Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def unknown_option(
    given: Assignment,
    options_type: type[Options],
    others: Mapping[str, type[Options]] | None = None,
    *,
    shown: str = "",
) -> UsageError:
    """The error for an option that a plugin does not have.

    Args:
        given: What asked for it.
        options_type: The options that the plugin has.
        others: Options of others in the same run, by name: one of them may have been meant.
        shown: By which name its options are described, where that is not the name that was given.
    """
    fields = options_type.model_fields
    meant = nearest(given.option, fields)
    if near := closest(given.option, fields):
        meant += f"It takes: {option_row(near, fields[near]).takes}. "
    owners = [name for name, other in (others or {}).items() if given.option in other.model_fields]
    if owners:
        meant += f"{' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it: --set {owners[0]}."
        meant += f"{given.option}={given.value}. "
    listing = f"Its options: {', '.join(fields)}." if fields else "It has no options."
    return UsageError(
        f"{given.name!r} has no option {given.option!r} (--set {given}).",
        f"{meant}{listing} {show_command(shown or given.name)}" if fields else f"{meant}{listing}",
    )


def show_command(name: str) -> str:
    """A sentence that says where the options of a name are described."""
    return f"`cbirbench plugins show {name}` describes them."


def validated(
    options_type: type[Options], values: Mapping[str, Any], name: str, *, shown: str = ""
) -> Options:
    """Make options of values.

    Args:
        options_type: Their type.
        values: The values.
        name: By which name they are set, for messages.
        shown: By which name they are described, where that is another.

    Raises:
        UsageError: A value has the wrong type or is out of bounds.
    """
    try:
        return options_type.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        own_words = not first["type"].startswith(PYDANTICS_OWN)
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ").rstrip(".")
        if not first["loc"]:
            raise UsageError(
                f"{name} does not take these options together: {reason}.",
                f"Change one of them with --set {name}.OPTION=VALUE. {show_command(shown or name)}",
            ) from error
        key = str(first["loc"][0])
        info = options_type.model_fields.get(key)
        received = values.get(key, first["input"])
        if isinstance(received, list) and all(isinstance(part, str) for part in received):
            received = ",".join(received)  # as the user wrote it
        if info is None:  # a validator of the plugin's own
            raise UsageError(f"{name}.{key} does not take {received!r}: {reason}.") from error
        row = option_row(key, info)
        how = f"Give it as --set {name}.{key}=VALUE"
        if own_words:
            how += f": {row.takes}."
        else:
            reason = f"it takes: {row.kind}"
            how += f" ({row.beside})."
        meaning = f" It sets: {row.description.rstrip('.')}." if row.description else ""
        raise UsageError(
            f"{name}.{key} does not take {received!r}: {reason}.",
            f"{how}{meaning} {show_command(shown or name)}",
        ) from error
