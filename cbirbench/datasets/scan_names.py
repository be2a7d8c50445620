"""What names of files and folders say: endings, and the words that mark images and masks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Files of one volume each that can be read, but for DICOM."""

IMAGE_FOLDERS = frozenset(
    {"imagestr", "imagests", "images", "image", "imgs", "img", "ct", "cts", "volumes", "scans"}
)
"""Folders, in lower case, that hold images: they tell them from masks, and say nothing of the patient."""

MASK_FOLDERS = frozenset(
    {
        "labelstr",
        "labelsts",
        "labels",
        "label",
        "masks",
        "mask",
        "segmentations",
        "segmentation",
        "segs",
        "seg",
    }
)
"""Folders, in lower case, that hold masks."""

_IMAGE_WORDS = frozenset({"image", "img", "ct", "volume", "vol", "scan", "imaging", "orig"})
_MASK_WORDS = frozenset({"label", "labels", "mask", "masks", "seg", "segmentation", "segmentations"})
_ORGAN_WORDS = frozenset(
    [
        "liver",
        "spleen",
        "pancreas",
        "colon",
        "lung",
        "lungs",
        "kidney",
        "kidneys",
        "vessel",
        "vessels",
        "hepatic",
        "portal",
        "vein",
        "tumor",
        "tumors",
        "tumour",
        "tumours",
        "lesion",
        "lesions",
        "cancer",
        "gallbladder",
        "stomach",
        "heart",
        "aorta",
        "bladder",
        "prostate",
        "organ",
        "organs",
        "left",
        "right",
        "and",
    ]
)

_MASK_END = re.compile(rf"(.+)[-_. ]({'|'.join(_MASK_WORDS)})", re.IGNORECASE)
_WORD_FIRST = re.compile(
    rf"({'|'.join(sorted(_IMAGE_WORDS | _MASK_WORDS, key=len))})[-_. ](.+)", re.IGNORECASE
)


def stem_of(name: str) -> str:
    """A file's name without the ending of a volume or a DICOM file, and without nnU-Net's ``_0000``."""
    lower = name.lower()
    for ending in (*VOLUME_ENDINGS, ".dcm", ".dicom", ".ima"):
        if lower.endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
            break
    return name.removesuffix("_0000")


def mask_base(stem: str) -> str:
    """The stem without a mask's ending: ``case1`` of ``case1_seg``; the stem itself where it has none."""
    match = _MASK_END.fullmatch(stem)
    return match[1] if match else stem


def without_first_word(stem: str) -> str:
    """The stem without an image's or mask's word before it: ``10`` of ``volume-10`` and ``label_10``."""
    match = _WORD_FIRST.fullmatch(stem)
    return match[2] if match else stem


def is_image_word(stem: str) -> bool:
    """Whether a stem says no more than that it is the image: ``ct``."""
    return stem.lower() in _IMAGE_WORDS


def is_mask_name(stem: str) -> bool:
    """Whether a stem says that it is a mask: ``label``, ``case1_seg``, ``segmentation-10``."""
    match = _WORD_FIRST.fullmatch(stem)
    begins = match is not None and match[1].lower() in _MASK_WORDS
    return stem.lower() in _MASK_WORDS or begins or _MASK_END.fullmatch(stem) is not None


def is_structure_name(stem: str) -> bool:
    """Whether a stem names structures and nothing else: ``liver``, ``liver_tumour``."""
    words = re.split(r"[-_. ]+", stem.lower())
    return all(word in _ORGAN_WORDS | _MASK_WORDS for word in words)


def safe_name(text: str) -> str:
    """The text with nothing but letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")


def volume_id(path: PurePath) -> str:
    """An id for the scan at a relative path: without endings, ``_`` for ``/``."""
    parts = [*path.parts[:-1], stem_of(path.name)] if path.name else []
    return "_".join(parts)


def unique(names: Iterable[str]) -> list[str]:
    """The names, the second of a name as ``name_2``."""
    taken: set[str] = set()
    made = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate)
        made.append(candidate)
    return made
