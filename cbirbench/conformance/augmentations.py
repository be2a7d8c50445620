"""Checks of augmentations: what is drawn, and that views follow from slice and draw alone."""

from __future__ import annotations

from collections.abc import Mapping

from cbirbench.conformance import augmentation_keys, declarations, imports
from cbirbench.conformance.augmentation_calls import (
    SIDES,
    SIZE,
    applied,
    drawn_by,
    equal_views,
    same_draw,
    usable_hu,
    various_hu,
)
from cbirbench.conformance.declarations import sent
from cbirbench.conformance.states import changed, restored, seed_everything, states
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Check, Fault, demand

TOLERANCE = 1e-5
"""Most that a view may differ by when fewer views are made beside it: rounding of float32 in 0..1."""

GPU_TOLERANCE = 2e-3
"""The same between CPU and GPU, which resize otherwise."""


def parameters(subject: Subject) -> str:
    """`sample` draws named tensors on the CPU, one row a slice."""
    import torch

    for count in (1, 5):
        drawn = drawn_by(subject, subject.one, count, seed=0)
        demand(
            isinstance(drawn, Mapping),
            f"sample gives {type(drawn).__name__}.",
            "Give a dict of names and tensors; an empty one where nothing is drawn.",
        )
        for name, tensor in drawn.items():
            shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            demand(
                isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu",
                f"sample gives {name!r}: {type(tensor).__name__}"
                + (f" on {tensor.device}." if isinstance(tensor, torch.Tensor) else "."),
                "Give tensors on the CPU: draws are kept and replayed.",
            )
            demand(
                tensor.ndim >= 1 and len(tensor) == count,
                f"sample({count}) gives {name!r} of shape {shape}.",
                "One row a slice: view i is made from row i.",
            )
    return (
        ", ".join(f"{name} {tuple(tensor.shape[1:])}" for name, tensor in drawn.items()) or "nothing is drawn"
    )


def draws(subject: Subject) -> str:
    """What is drawn depends on the generator alone."""
    with restored():
        seed_everything(4321)
        before = states()
        first = drawn_by(subject, subject.one, 5, seed=0)
        touched = changed(before)
        demand(
            not touched,
            f"sample changes {' and '.join(touched)}.",
            "Draw from the generator that is handed in: torch.rand(..., generator=generator).",
        )
        again = drawn_by(subject, subject.make(), 5, seed=0)
        other = drawn_by(subject, subject.one, 5, seed=1)
    demand(
        same_draw(first, again),
        "The same state of the generator gives other draws.",
        "The generator is the only source of randomness.",
    )
    if same_draw(first, other):
        return "nothing is drawn at random: every seed gives the same"
    return "the same seed gives the same draw, another seed another"


def views(subject: Subject) -> str:
    """`apply` gives two views of every slice, float32 in 0..1, of the size asked for."""
    import torch

    hu = various_hu()
    for size in (SIZE, 33):
        drawn = drawn_by(subject, subject.one, len(hu), seed=0)
        made = applied(subject, subject.one, hu, drawn, size)
        demand(
            isinstance(made, tuple | list) and len(made) == 2,
            f"apply gives {f'{len(made)} views' if isinstance(made, tuple | list) else type(made).__name__}.",
            "Return two views: a tuple of two tensors.",
        )
        for number, view in enumerate(made, start=1):
            shape = tuple(view.shape) if isinstance(view, torch.Tensor) else type(view).__name__
            demand(
                shape == (len(hu), 1, size, size) and view.dtype == torch.float32,
                f"View {number} of {len(hu)} slices at {size} px is {getattr(view, 'dtype', '')} {shape}.",
                f"It must be float32 of shape ({len(hu)}, 1, {size}, {size}).",
            )
            low, high = float(view.min()), float(view.max())
            demand(
                low >= 0.0 and high <= 1.0,  # not so for NaN either
                f"View {number} lies in {low:g}..{high:g}.",
                "Window HU and clamp to 0..1: cbirbench.windows.apply_window.",
            )
    first, second = (float(view.mean()) for view in made)
    return f"two views in 0..1, of means {first:.2g} and {second:.2g}, of slices of {len(set(SIDES))} sizes"


def replay(subject: Subject) -> str:
    """Recorded parameters give the very same views again, from a file too."""
    from safetensors.torch import load, save

    hu = usable_hu(subject)
    drawn = drawn_by(subject, subject.one, len(hu), seed=3)
    first = applied(subject, subject.one, hu, drawn, SIZE)
    demand(
        equal_views(first, applied(subject, subject.one, hu, drawn, SIZE)),
        "Applied twice, the same parameters give different views.",
        "Draw everything in sample; apply draws nothing.",
    )
    try:
        kept = load(save({name: tensor.contiguous() for name, tensor in drawn.items()}))
    except Exception as error:
        raise Fault(
            f"Its parameters cannot be kept in a file: {type(error).__name__}: {error}.",
            "Use plain tensors of numbers or bool.",
        ) from error
    demand(
        equal_views(first, applied(subject, subject.make(), hu, kept, SIZE)),
        "Parameters from a file give other views.",
        "Everything that apply needs must stand in the parameters and the options.",
    )
    return "twice and from a file: equal bit for bit"


def rows_apart(subject: Subject) -> str:
    """View i depends on slice i and row i alone."""
    hu = usable_hu(subject)
    drawn = drawn_by(subject, subject.one, len(hu), seed=4)
    whole = applied(subject, subject.one, hu, drawn, SIZE)
    apart = 0.0
    for chosen in ([2], [3, 0], [4, 3, 2, 1, 0]):
        some = applied(
            subject,
            subject.one,
            [hu[i] for i in chosen],
            {name: tensor[chosen] for name, tensor in drawn.items()},
            SIZE,
        )
        apart = max(
            [
                apart,
                *(float((one[chosen] - other).abs().max()) for one, other in zip(whole, some, strict=True)),
            ]
        )
    demand(
        apart <= TOLERANCE,
        f"Views of a slice depend on the others of its batch: they differ by up to {apart:.2g}.",
        "Take slice i and row i of the parameters for view i, and nothing over the batch.",
    )
    return f"parts of a batch differ by {apart:.2g} (rounding: {TOLERANCE:g})"


def input_unchanged(subject: Subject) -> str:
    """Slices and parameters are not changed in place, and no global state."""
    hu = usable_hu(subject)
    drawn = drawn_by(subject, subject.one, len(hu), seed=5)
    before = [item.clone() for item in hu], {name: tensor.clone() for name, tensor in drawn.items()}
    with restored():
        seed_everything(4322)
        state = states()
        applied(subject, subject.one, hu, drawn, SIZE)
        touched = changed(state)
    demand(
        all(bool((one == other).all()) for one, other in zip(hu, before[0], strict=True)),
        "apply changes the HU it is given.",
        "Copy first: hu.float().",
    )
    demand(same_draw(drawn, before[1]), "apply changes the parameters it is given.", "Copy what is changed.")
    demand(
        not touched,
        f"apply changes {' and '.join(touched)}.",
        "Draw in sample, from the generator handed in.",
    )
    return "HU, parameters and global state as before"


def pickles(subject: Subject) -> str:
    """Another process that it is handed to makes the same views."""
    hu = usable_hu(subject)
    there = sent(subject.one, "It")
    drawn = drawn_by(subject, there, len(hu), seed=6)
    demand(
        same_draw(drawn, drawn_by(subject, subject.one, len(hu), seed=6))
        and equal_views(
            applied(subject, there, hu, drawn, SIZE), applied(subject, subject.one, hu, drawn, SIZE)
        ),
        "Pickled and unpickled it draws or makes other views.",
        "Keep what it needs in plain attributes.",
    )
    return "the same draws and views once pickled and unpickled"


def device(subject: Subject) -> str:
    """On a GPU, views stay there and agree with the CPU's."""
    import torch

    hu = usable_hu(subject)
    if not torch.cuda.is_available():
        raise Beside("There is no GPU here.")
    drawn = drawn_by(subject, subject.one, len(hu), seed=7)
    on_cpu = applied(subject, subject.one, hu, drawn, SIZE)
    there = applied(subject, subject.one, [item.to("cuda") for item in hu], drawn, SIZE)
    demand(
        all(view.device.type == "cuda" for view in there),
        "Views of slices on the GPU are not there.",
        "Work on the device of hu.",
    )
    apart = max(float((one - other.cpu()).abs().max()) for one, other in zip(on_cpu, there, strict=True))
    demand(
        apart <= GPU_TOLERANCE,
        f"Views made on GPU and CPU differ by up to {apart:.2g}.",
        f"At most {GPU_TOLERANCE:g} is rounding.",
    )
    return f"stays on the GPU; it and the CPU differ by {apart:.2g}"


CHECKS: tuple[Check, ...] = (
    *declarations.CHECKS,
    *imports.CHECKS,
    parameters,
    draws,
    views,
    replay,
    rows_apart,
    input_unchanged,
    *augmentation_keys.CHECKS,
    pickles,
    device,
)
"""All of them, in the order in which they are told."""
