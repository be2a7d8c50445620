"""How checks draw from an augmentation and make views with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cbirbench.conformance.making import made_slices
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, calling

if TYPE_CHECKING:
    from torch import Tensor

SIDES = (64, 96, 80, 64, 50)
"""Slices of a batch differ in size."""

SIZE = 48

Parameters = Mapping[str, "Tensor"]


def various_hu() -> list[Tensor]:
    """Slices of several sizes."""
    import torch

    return [torch.from_numpy(made_slices(i + 2, side=side)[i + 1].hu) for i, side in enumerate(SIDES)]


def usable_hu(subject: Subject) -> list[Tensor]:
    """Slices to make views of, where it makes views at all."""
    hu, augmentation = various_hu(), subject.one
    try:
        first, second = applied(
            subject, augmentation, hu, drawn_by(subject, augmentation, len(hu), seed=0), SIZE
        )
        ok = first.shape == second.shape == (len(hu), 1, SIZE, SIZE)
    except Exception:
        ok = False
    if not ok:
        raise Beside("It makes no two views: see views.")
    return various_hu()  # anew, lest it changed them


def drawn_by(subject: Subject, augmentation: Any, count: int, *, seed: int) -> Parameters:
    """What an augmentation draws with a seed."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn: Parameters = calling(f"{subject.name}.sample", lambda: augmentation.sample(count, generator))
    return drawn


def applied(
    subject: Subject, augmentation: Any, hu: Sequence[Tensor], drawn: Parameters, size: int
) -> tuple[Tensor, Tensor]:
    """The views that it makes."""
    made: tuple[Tensor, Tensor] = calling(
        f"{subject.name}.apply", lambda: augmentation.apply(hu, drawn, size)
    )
    return made


def same_draw(one: Parameters, other: Parameters) -> bool:
    """Whether two draws are equal."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def equal_views(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Whether views are equal bit for bit."""
    import torch

    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
