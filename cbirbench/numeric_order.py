"""The order of names with numbers in them."""

from __future__ import annotations

import re


def numeric_order(name: str) -> tuple[tuple[int | str, ...], str]:
    """Sort key by which liver_2 comes before liver_10. Only the digits 0 to 9 count as numbers."""
    parts = re.split(r"([0-9]+)", name)  # text and numbers in turn, so that like is compared with like
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name
