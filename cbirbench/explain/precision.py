"""Which arithmetic a device is fast in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cbirbench.interfaces import Precision

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls a processor's instructions for bfloat16 (x86; ARM)."""

PROCESSOR_FLAGS = Path("/proc/cpuinfo")


def resolved(precision: Literal["auto", "float32", "bfloat16"], device: str) -> Precision:
    """The arithmetic that ``auto`` stands for on a device: bfloat16 where it has instructions for it.

    Args:
        precision: As asked for.
        device: A torch device string. Of processors only those under Linux say what they can; elsewhere
            ``auto`` is float32.
    """
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    try:
        words = set(PROCESSOR_FLAGS.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return "float32"
    return "bfloat16" if words & BFLOAT16_FLAGS else "float32"
