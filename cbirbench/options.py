"""A plugin's options: typed, bounded, documented where they are declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""A value that JSON can hold."""

ProfileName = Literal["paper", "released-code"]
"""The two readings of the protocol: the paper's text, and its released program."""


class Options(BaseModel):
    """A plugin's options: typed, bounded, documented. Declare each with `option`.

    `family` names a set of plugins whose options ``--set FAMILY.OPTION=VALUE`` sets together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    family: ClassVar[str] = ""

    def shaping(self) -> dict[str, Any]:
        """The values that can change a number, as JSON: all but those declared with ``result=False``."""
        beside = {
            name
            for name, info in type(self).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("result") is False
        }
        return self.model_dump(mode="json", exclude=beside)


def option(
    default: Any,
    *,
    description: str,
    unit: str = "",
    source: str = "",
    profiles: Mapping[ProfileName, Any] | None = None,
    protocol: bool = True,
    result: bool = True,
    **bounds: Any,
) -> Any:
    """Declare one option of a plugin.

    Args:
        default: The value in the `paper` profile.
        description: One sentence that says what it sets.
        unit: The unit of the value: ``px``, ``HU``, ``epochs``.
        source: Where the default comes from, a section or an equation.
        profiles: Values that other profiles give it, ``{"released-code": ...}``.
        protocol: Whether a value other than the profile's departs from it; not so for a path or a batch size
            that changes no result.
        result: False where no value of it can change any number, not even the last digit (how often a
            checkpoint is written): what was computed with another value is then used again.
        **bounds: pydantic's constraints: ``ge``, ``gt``, ``le``, ``lt``, ``min_length``.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "source": source,
        "profiles": dict(profiles or {}),
        "protocol": protocol and result,
        "result": result,
    }
    return Field(default, description=description, json_schema_extra=extra, validate_default=True, **bounds)
