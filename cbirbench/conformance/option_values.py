"""Other values that an option takes, derived from its declaration."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError

from cbirbench.interfaces import Options


def another(options: Options, name: str) -> Options | None:
    """The same options but for one, which has another valid value; None where none can be derived."""
    before = getattr(options, name)
    annotation = type(options).model_fields[name].annotation
    for value in _candidates(annotation, before):
        if value == before:
            continue
        try:
            changed = type(options).model_validate({**options.model_dump(), name: value})
        except ValidationError:
            continue
        if getattr(changed, name) != before:
            return changed
    return None


def _candidates(annotation: Any, before: Any) -> Iterator[Any]:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _candidates(parts[0], before)
    elif origin in (typing.Union, types.UnionType):
        for part in parts:
            yield from _candidates(part, before)
    elif origin is Literal:
        yield from parts
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from annotation
    elif isinstance(before, bool):
        yield not before
    elif isinstance(before, int):
        yield from (before + 1, before - 1, 2 * before, before // 2)
    elif isinstance(before, float):
        yield from (before * 0.5, before * 2, before + 1, before - 1, before * 0.9)
    elif annotation in (int, float) and before is None:
        yield from (1, 0.5, 0)
    elif origin is tuple and isinstance(before, tuple) and len(parts) == len(before):
        for place, (part, value) in enumerate(zip(parts, before, strict=True)):
            for other in _candidates(part, value):
                yield (*before[:place], other, *before[place + 1 :])
