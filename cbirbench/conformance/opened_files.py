"""Which files are opened while something runs, a plugin's weights for one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import PurePath
from typing import Any

_lists: list[list[str]] = []

_CODE = (".py", ".pyc", ".pyi", ".so", ".dylib", ".pyd")
_SYSTEM = ("/proc/", "/sys/", "/dev/")


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Note each file that Python opens, but for code and the system's own; libraries may open without it."""
    _listen()
    found: list[str] = []
    _lists.append(found)
    try:
        yield found
    finally:
        _lists[:] = [one for one in _lists if one is not found]


@cache
def _listen() -> None:
    """Python can be told to call something for each file it opens, once and for good."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if _lists and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if PurePath(path).suffix not in _CODE and not path.startswith(_SYSTEM):
                for one in _lists:
                    one.append(path)

    sys.addaudithook(heard)
