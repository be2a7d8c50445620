"""Checks of extractors: what they hand over, and that it depends on the slice and the options alone."""

from __future__ import annotations

import numpy as np

from cbirbench.conformance import (
    declarations,
    extractor_hu,
    extractor_keys,
    extractor_masks,
    imports,
    training,
)
from cbirbench.conformance.extractor_calls import (
    GPU_TOLERANCE,
    TOLERANCE,
    difference,
    hu_of,
    images_of,
    raw_embed,
    raw_prepare,
    usual,
    vectors_of,
)
from cbirbench.conformance.making import flat_slices, made_slices
from cbirbench.conformance.states import changed, random_states, restored, seed_everything, states
from cbirbench.conformance.subjects import Subject
from cbirbench.conformance.verdicts import Beside, Check, demand
from cbirbench.extraction import embedded
from cbirbench.slices import Slices


def images(subject: Subject) -> str:
    """`prepare` gives float32 images in 0..1, one a slice."""
    import torch

    given = images_of(subject, made_slices(4).items)
    demand(
        given.dtype == torch.float32,
        f"prepare gives {given.dtype}.",
        "Convert: hu.float() before anything else.",
    )
    return f"{tuple(given.shape[1:])}, {float(given.min()):.3g}..{float(given.max()):.3g}"


def embeddings(subject: Subject) -> str:
    """`embed` gives float32 vectors, finite, one an image, that differ between slices."""
    import torch

    extractor, slices = subject.one, made_slices(8)
    vectors = vectors_of(subject, slices, extractor)
    given = raw_embed(subject, extractor, images_of(subject, slices.items))
    demand(
        given.dtype == torch.float32,
        f"embed gives {given.dtype}.",
        "End with .float(): rankings are made from float32.",
    )
    demand(
        not given.requires_grad,
        "embed gives tensors that keep their whole computation in memory (requires_grad).",
        "Compute under torch.no_grad().",
    )
    demand(
        not (vectors == vectors[0]).all(),
        f"All {len(slices)} different slices have the very same embedding.",
        "Nothing can be retrieved with it: look at what prepare and embed give.",
    )
    return f"{vectors.shape[1]} values a slice"


def batch_size(subject: Subject) -> str:
    """An embedding does not depend on how many slices are embedded at once."""
    slices, together = usual(subject)
    apart = max(difference(together, vectors_of(subject, slices, batch_size=size)) for size in (1, 2, 3))
    demand(
        apart <= TOLERANCE,
        f"Embedded in batches of 1, 2 and 3, slices get other embeddings than in one of {len(slices)}: they "
        f"differ by {apart:.2g} of the spread between slices, at most {TOLERANCE:g} is rounding.",
        "Compute nothing across a batch: batch norm in evaluation mode, and no minimum, maximum or mean of "
        "several images.",
    )
    return f"batches of 1, 2, 3 and {len(slices)} differ by {apart:.2g} (rounding: {TOLERANCE:g})"


def order(subject: Subject) -> str:
    """An embedding does not depend on the order of a batch."""
    slices, forwards = usual(subject)
    backwards = vectors_of(subject, Slices(slices.items[::-1]))[::-1]
    apart = difference(forwards, backwards)
    demand(
        apart <= TOLERANCE,
        f"In reverse order slices get other embeddings: they differ by {apart:.2g} of their spread.",
        "Row i of the result belongs to image i and depends on it alone.",
    )
    return f"reversed, they differ by {apart:.2g}"


def repeats(subject: Subject) -> str:
    """A slice that comes twice in a batch gets the same embedding twice."""
    _, different = usual(subject)
    item = made_slices(2)[1]
    hu = hu_of(Slices((item,))).repeat(3, 1, 1)
    extractor = subject.one
    vectors = embedded(extractor, raw_prepare(subject, extractor, hu), name=subject.name)
    apart = difference(vectors, np.repeat(vectors[:1], 3, axis=0), different)
    demand(
        apart <= TOLERANCE,
        f"One slice three times in a batch gets different embeddings, by {apart:.2g} of the spread between "
        "slices.",
        "No dropout, no noise, no draw may be left on in embed.",
    )
    return f"three times the same slice: {apart:.2g} apart"


def deterministic(subject: Subject) -> str:
    """Two instances give equal embeddings, whatever the global random generators were seeded with."""
    slices, _ = usual(subject)
    found = []
    with restored():
        for seed in (1, 2):
            seed_everything(seed)
            found.append(vectors_of(subject, slices, subject.make()))
    demand(
        np.array_equal(found[0], found[1]),
        f"Two instances with the same options give embeddings that differ by {difference(*found):.2g} of "
        "the spread between slices.",
        "Draw from a generator of its own, seeded by an option: torch.Generator().manual_seed(options.seed).",
    )
    return "two instances, two global seeds: equal bit for bit"


def global_state(subject: Subject) -> str:
    """Using it leaves random generators as they were, and making and using it torch's settings."""
    with restored():
        slices, _ = usual(subject)
    touched = {}
    with restored():
        seed_everything(4321)  # that a seed of its own is set shows only against another
        before = states()
        extractor = subject.make()
        made = changed(before)
        # A network draws its first weights from torch's generator; `deterministic` shows that none remains.
        drawn = random_states(made)
        touched["making it"] = [name for name in made if name not in drawn]
        seed_everything(4322)
        before = states()
        prepared = raw_prepare(subject, extractor, hu_of(slices))
        touched["prepare"] = changed(before)
        seed_everything(4323)
        before = states()
        raw_embed(subject, extractor, prepared)
        touched["embed"] = changed(before)
    told = [f"{step} changes {' and '.join(names)}" for step, names in touched.items() if names]
    demand(
        not told,
        f"{'; '.join(told)}.",
        "Other extractors run in the same process: use torch.random.fork_rng, a generator of its own, or "
        "torch.no_grad as a block.",
    )
    note = f"; making it draws from {' and '.join(drawn)}" if drawn else ""
    return f"random generators and torch's settings as before{note}"


def sizes(subject: Subject) -> str:
    """Slices of other sizes, and such as are not square, have embeddings of the same length."""
    usual(subject)
    small, large = made_slices(2, side=64), made_slices(2, side=130, seed=1)
    oblong = made_slices(2, side=96, seed=2)[1]
    widths = set()
    from dataclasses import replace

    cut = replace(oblong, hu=oblong.hu[10:70].copy(), mask=None, slice_id="oblong")
    for slices in (small, large, Slices((cut,))):
        widths.add(vectors_of(subject, slices).shape[1])
    widths.add(usual(subject)[1].shape[1])
    demand(
        len(widths) == 1,
        f"Slices of 64, 96 and 130 px have embeddings of {sorted(widths)} values.",
        "Resize in prepare: cbirbench.windows.resize.",
    )
    return "64, 96, 130 px and oblong slices"


def device(subject: Subject) -> str:
    """On a GPU, images and embeddings stay there and agree with the CPU's."""
    import torch

    slices, on_cpu = usual(subject)
    if not torch.cuda.is_available():
        raise Beside("There is no GPU here.")
    extractor = subject.make(device="cuda")
    prepared = raw_prepare(subject, extractor, hu_of(slices).to("cuda"))
    vectors = raw_embed(subject, extractor, prepared)
    for step, tensor in (("prepare", prepared), ("embed", vectors)):
        demand(
            tensor.device.type == "cuda",
            f"{step} was given tensors on the GPU and gives them on {tensor.device}.",
            "Work on the device of what is given, and give back what lies there.",
        )
    apart = difference(on_cpu, vectors.detach().float().cpu().numpy())
    demand(
        apart <= GPU_TOLERANCE,
        f"GPU and CPU differ by {apart:.2g} of the spread between slices; {GPU_TOLERANCE:g} is rounding.",
        "Draw random numbers on the CPU and move them; leave TF32 off.",
    )
    return f"stays on the GPU; it and the CPU differ by {apart:.2g}"


def flat_images(subject: Subject) -> str:
    """Slices without any structure have finite embeddings."""
    usual(subject)
    vectors_of(subject, flat_slices([-1024, -1000, 0, 60, 3071]))
    return "air, water, tissue and metal throughout: finite"


CHECKS: tuple[Check, ...] = (
    *declarations.CHECKS,
    *imports.CHECKS,
    images,
    embeddings,
    *extractor_hu.CHECKS,
    flat_images,
    *extractor_masks.CHECKS,
    sizes,
    repeats,  # before those that noise fails as well
    batch_size,
    order,
    deterministic,
    global_state,
    device,
    *extractor_keys.CHECKS,
    *training.CHECKS,
)
"""All of them, in the order in which they are told."""
