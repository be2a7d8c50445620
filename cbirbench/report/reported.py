"""What the paper prints in its tables 1 to 5, and what is known to be wrong with it.

Facts to set beside a measurement, never to assert: Wickstrøm et al. 2023,
doi:10.1016/j.compmedimag.2023.102239, CC BY 4.0. Tables 2 and 4 are of the paper's Decathlon slices, tables 3
and 5 of its own UNN cohort, which is not public. All figures are kept in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

METRICS = ("map", "knn-accuracy", "relevance-rank")
"""The paper's MAP, ACC and RR, by the families of our metrics' names."""

FLAWS: Mapping[str, str] = {
    "normalisation": (
        "Measured on images that lack the normalisation which ImageNet's weights were trained with, as the "
        "released program shows. Ours is measured the same way where the backbone is resnet50.tv_in1k and "
        "normalise was left at auto; any other backbone gets its own normalisation."
    ),
    "chance": (
        "RR has a chance level, the organ's share of the slice, which the paper does not give: 7 to 11 % on "
        "four masked liver scans, 8.5 on average."
    ),
    "bold-rr-2": (
        "Bold in the paper, for 14.8 against 14.7: a one-sided test from the printed means and deviations "
        "gives p of about .45."
    ),
    "bold-map-3": (
        "Bold in the paper: a one-sided test from the printed means and deviations gives p of about .14."
    ),
    "both-bold": "The paper's table 3 prints both of these rows bold for MAP.",
    "bold-rr-3": (
        "Bold in the paper although lower than the baseline's: a one-sided test from the printed means and "
        "deviations gives p of about .65."
    ),
    "one-row": (
        "The paper's tables 4 and 5 print one and the same row for “ours” (89.1 ± 1.3, 90.6 ± 1.4), on two "
        "cohorts; it contradicts the paper's tables 2 and 3."
    ),
    "fraction": "The paper prints a fraction (.50 for 50 %) beside the percentages of its own method.",
    "coin": "Exactly chance on two balanced classes.",
}
"""Known flaws of the paper's tables, by key."""


@dataclass(frozen=True)
class Reported:
    """One figure as the paper prints it.

    Attributes:
        text: In percent, with as many digits as are printed.
        bold: Whether the paper prints it bold.
        flaws: Keys of `FLAWS`.
    """

    text: str
    bold: bool = False
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportedRow:
    """One row: the paper's label, our extractor's canonical name, and a figure for each metric's family."""

    label: str
    extractor: str
    figures: Mapping[str, Reported]


@dataclass(frozen=True)
class ReportedTable:
    """Tables 2 to 5.

    Attributes:
        number: The table's number in the paper.
        external: Whether its queries are the external cohort (UNN), not the Decathlon's.
        heading: What the paper calls the first column.
        caption: What the table compares, in our words.
        rows: In the paper's order; the last is the paper's own method.
    """

    number: int
    external: bool
    heading: str
    caption: str
    rows: tuple[ReportedRow, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Families of the metrics that the table shows."""
        return tuple(family for family in METRICS if family in self.rows[0].figures)


OURS = "simsiam-hu-clip"
"""The paper's method among our extractors."""

ARCHITECTURE = ("ResNet50", "~23 million", "ReLU", "SGD")
"""Table 1: architecture, number of parameters, activation, optimisation (and section 8)."""

ARCHITECTURE_COLUMNS = ("Architecture", "Num. of params.", "Activation", "Optimization")


def _row(label: str, extractor: str, *figures: Reported) -> ReportedRow:
    return ReportedRow(label, extractor, dict(zip(METRICS, figures, strict=False)))


def _with(flaw: str, *figures: Reported) -> tuple[Reported, ...]:
    return tuple(replace(figure, flaws=(*figure.flaws, flaw)) for figure in figures)


_CAPTION_PRETRAINING = "Retrieval and explanations by pretraining"
_CAPTION_HANDCRAFTED = "Retrieval by handcrafted and by learned features"
_LABELS = ("IN", "IN + SS (baseline)", "IN + SS (ours)")
_LEARNED = ("imagenet", "simsiam-baseline", OURS)
_OWN_ROW = _with("one-row", Reported("89.1 ± 1.3", bold=True), Reported("90.6 ± 1.4", bold=True))

_TABLE_2 = (
    _with("normalisation", Reported("79.4"), Reported("80.3"), Reported("5.00", flaws=("chance",))),
    (Reported("87.5 ± 1.0"), Reported("88.7 ± 0.8"), Reported("14.7 ± 3.1", flaws=("chance",))),
    (
        Reported("88.7 ± 0.8", bold=True),
        Reported("91.2 ± 1.1", bold=True),
        Reported("14.8 ± 2.1", bold=True, flaws=("chance", "bold-rr-2")),
    ),
)
_TABLE_3 = (
    _with("normalisation", Reported("80.7"), Reported("83.0"), Reported("4.34", flaws=("chance",))),
    (
        Reported("83.7 ± 1.7", bold=True, flaws=("both-bold",)),
        Reported("86.2 ± 2.4"),
        Reported("18.4 ± 3.0", flaws=("chance",)),
    ),
    (
        Reported("84.3 ± 1.7", bold=True, flaws=("both-bold", "bold-map-3")),
        Reported("87.8 ± 2.3", bold=True),
        Reported("18.0 ± 3.5", bold=True, flaws=("chance", "bold-rr-3")),
    ),
)

TABLES = (
    ReportedTable(
        2,
        external=False,
        heading="Pretraining",
        caption=_CAPTION_PRETRAINING,
        rows=tuple(_row(*row[:2], *row[2]) for row in zip(_LABELS, _LEARNED, _TABLE_2, strict=True)),
    ),
    ReportedTable(
        3,
        external=True,
        heading="Pretraining",
        caption=_CAPTION_PRETRAINING,
        rows=tuple(_row(*row[:2], *row[2]) for row in zip(_LABELS, _LEARNED, _TABLE_3, strict=True)),
    ),
    ReportedTable(
        4,
        external=False,
        heading="Feature extractor",
        caption=_CAPTION_HANDCRAFTED,
        rows=(
            _row("Gabor", "gabor", *_with("fraction", *_with("coin", Reported("50"), Reported("50")))),
            _row("HOG", "hog", *_with("fraction", Reported("77"), Reported("77"))),
            _row("Ours", OURS, *_OWN_ROW),
        ),
    ),
    ReportedTable(
        5,
        external=True,
        heading="Feature extractor",
        caption=_CAPTION_HANDCRAFTED,
        rows=(
            _row("Gabor", "gabor", *_with("fraction", Reported("49"), Reported("49"))),
            _row("HOG", "hog", *_with("fraction", Reported("78"), Reported("75"))),
            _row("Ours", OURS, *_OWN_ROW),
        ),
    ),
)
"""Tables 2 to 5 in order."""
