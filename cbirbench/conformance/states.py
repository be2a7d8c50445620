"""Global state that a plugin must leave as it was: random generators and torch's settings."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np


def states() -> dict[str, Any]:
    """What there is of it, by the words that a verdict uses."""
    import torch

    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": repr(np.random.get_state(legacy=False)),
        "random's state": random.getstate(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's default device": str(torch.get_default_device()),
        "numpy's treatment of errors": np.geterr(),
    }


def changed(before: dict[str, Any]) -> list[str]:
    """What is no longer as it was."""
    now = states()
    return [name for name, value in before.items() if now[name] != value]


@contextmanager
def restored() -> Iterator[None]:
    """Put all of it back at the end, whatever a plugin did to it; torch's where it is imported by now."""
    numpy_state, python_state, errors = np.random.get_state(), random.getstate(), np.geterr()
    with _restored_torch() if "torch" in sys.modules else nullcontext():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            np.seterr(**errors)


@contextmanager
def _restored_torch() -> Iterator[None]:
    import torch

    rng, grad, dtype = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    threads, device = torch.get_num_threads(), torch.get_default_device()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(rng)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


def seed_everything(seed: int) -> None:
    """Seed the global generators, which no result may depend on."""
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
