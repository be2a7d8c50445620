"""Global state that a plugin must leave as it was: random generators and torch's settings."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_TINY = (1e-310, 1e-3)


def states() -> dict[str, Any]:
    """What there is of it, by the words that a verdict uses; torch's where it is imported by now."""
    found = {**_generators(), "numpy's treatment of errors": np.geterr()}
    if "torch" in sys.modules:
        found |= {name: read() for name, (read, _) in _torch_settings().items()}
    # The processor's own setting, which torch.set_flush_denormal changes and nothing reads.
    return found | {"the treatment of numbers next to zero (flush denormal)": _flushes_denormals()}


def _generators() -> dict[str, Any]:
    found: dict[str, Any] = {
        "numpy's random state": repr(np.random.get_state(legacy=False)),
        "random's state": random.getstate(),
    }
    if "torch" in sys.modules:
        import torch

        found["torch's random state"] = torch.get_rng_state().numpy().tobytes()
        if _cuda_is_up():
            found["CUDA's random state"] = [
                state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()
            ]
    return found


def random_states(names: list[str]) -> list[str]:
    """Those of some names of `states` that are random generators."""
    return [name for name in names if name in _generators()]


def _cuda_is_up() -> bool:
    import torch

    return bool(torch.cuda.is_available() and torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _flushes_denormals() -> bool:
    tiny, factor = _TINY
    return tiny * factor == 0.0 or tiny == 0.0


def _torch_settings() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How each of torch's settings is read and set."""
    import torch

    def threads(number: int) -> None:
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)

    def default_device(device: str) -> None:
        if str(torch.get_default_device()) != device:
            torch.set_default_device(device)

    def cudnn(name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        flags = torch.backends.cudnn
        return lambda: getattr(flags, name), lambda value: setattr(flags, name, value)

    return {
        "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "torch's number of threads": (torch.get_num_threads, threads),
        "torch's deterministic mode": (
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        "torch's default device": (lambda: str(torch.get_default_device()), default_device),
        "torch's float32 matmul precision": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        "cudnn.benchmark": cudnn("benchmark"),
        "cudnn.deterministic": cudnn("deterministic"),
        "cudnn.allow_tf32": cudnn("allow_tf32"),
    }


def changed(before: dict[str, Any]) -> list[str]:
    """What is no longer as it was."""
    now = states()
    return [name for name, value in before.items() if now.get(name) != value]


@contextmanager
def restored() -> Iterator[None]:
    """Put all of it back at the end, whatever a plugin did to it; torch's where it was imported before."""
    numpy_state, python_state, errors = np.random.get_state(), random.getstate(), np.geterr()
    flushes, torch_was_there = _flushes_denormals(), "torch" in sys.modules
    settings = {name: read() for name, (read, _) in _torch_settings().items()} if torch_was_there else {}
    if torch_was_there:
        import torch

        rng = torch.get_rng_state()
        cuda_rng = torch.cuda.get_rng_state_all() if _cuda_is_up() else []
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        np.seterr(**errors)
        if torch_was_there:
            torch.set_rng_state(rng)
            if cuda_rng:
                torch.cuda.set_rng_state_all(cuda_rng)
            for name, (read, put) in _torch_settings().items():
                if read() != settings[name]:
                    put(settings[name])
        if "torch" in sys.modules and _flushes_denormals() != flushes:
            import torch

            torch.set_flush_denormal(flushes)


def seed_everything(seed: int) -> None:
    """Seed the global generators, which no result may depend on."""
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
