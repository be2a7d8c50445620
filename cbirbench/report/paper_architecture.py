"""The paper's table 1 from our runs: what is trained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cbirbench.report.paper_layout import Cell, Footnotes, Heading, Note, PaperTable
from cbirbench.report.paper_notes import REPORTED
from cbirbench.report.paper_runs import Column, fill_command
from cbirbench.report.reported import ARCHITECTURE, ARCHITECTURE_COLUMNS, OURS
from cbirbench.report.scoreboard import DASH, plain, value_text
from cbirbench.settings import PROFILES

ACTIVATIONS = {
    "resnet18": "ReLU",
    "resnet34": "ReLU",
    "resnet50": "ReLU",
    "resnet101": "ReLU",
    "resnet152": "ReLU",
    "tf_efficientnet_lite0": "ReLU6",
}
"""Activation functions by timm's name of the architecture; a run's files do not hold them."""


def architecture_table(columns: Mapping[str, Column]) -> PaperTable:
    """Table 1: the paper's method as each profile's runs trained it, and as the paper describes it."""
    footnotes = Footnotes()
    rows = [
        (f"this run, {profile} profile", _own_row(profile, columns, footnotes))
        for profile in PROFILES
        if profile == "paper" or profile in columns
    ]
    rows.append((" ".join(REPORTED), tuple(Cell(text) for text in ARCHITECTURE)))
    changed = []
    for profile, column in columns.items():
        options = sorted(
            {item["option"] for item in column.summary["departures"] if item["plugin"] in (OURS, "hu-clip")}
        )
        if options:
            changed.append(f"{profile} (changed: {', '.join(map(plain, options))})")
    title = "The proposed method: architecture, parameters, activation and optimisation"
    return PaperTable(
        number=1,
        title=title + (f" — profile {'; profile '.join(changed)}" if changed else ""),
        first="",
        headings=tuple(Heading("", name, ("", "")) for name in ARCHITECTURE_COLUMNS),
        rows=tuple(rows),
        footnotes=footnotes.by_letter(),
        notes=(
            Note(
                "Parameters are counted in the weights that the first run kept: the encoder's, without a "
                "classifier, SimSiam's heads and the running statistics of batch norm."
            ),
        ),
    )


def _own_row(profile: str, columns: Mapping[str, Column], footnotes: Footnotes) -> tuple[Cell, ...]:
    column = columns.get(profile)
    if column is None or OURS not in column.extractors:
        like = column or next(iter(columns.values()))
        command = fill_command(like, profile, [OURS])
        note = Note(f"No run of {OURS} with profile {profile} was given; this makes one:", command)
        return (Cell(DASH, letters=footnotes.letters_of(note)),) * len(ARCHITECTURE)
    options: Mapping[str, Any] = column.extractors[OURS].get("options") or {}
    backbone = str(options.get("backbone", ""))
    count = column.parameters.get(OURS)
    activation = ACTIVATIONS.get(backbone.partition(".")[0])
    cells = [
        Cell(plain(backbone) or DASH),
        Cell(f"{count:,}") if count else _unknown("The run's folder keeps no weights to count.", footnotes),
        Cell(activation) if activation else _unknown("The run's files do not hold it.", footnotes),
        Cell(_optimisation(options)),
    ]
    return tuple(cells)


def _unknown(reason: str, footnotes: Footnotes) -> Cell:
    return Cell(DASH, letters=footnotes.letters_of(Note(reason)))


def _optimisation(options: Mapping[str, Any]) -> str:
    """``SGD, momentum 0.9, weight decay 0.0001, learning rate 0.05 × 32/256 = 0.00625, ...``."""
    parts = ["SGD"]
    for name, words in (("momentum", "momentum"), ("weight_decay", "weight decay")):
        if name in options:
            parts.append(f"{words} {value_text(options[name])}")
    rate, batch = options.get("learning_rate"), options.get("batch_size")
    if rate is not None and batch is not None:
        parts.append(f"learning rate {rate:g} × {batch}/256 = {rate * batch / 256:g}")
        parts.append(f"batch {batch}")
    if "epochs" in options:
        parts.append("1 epoch" if options["epochs"] == 1 else f"{options['epochs']} epochs")
    return ", ".join(parts)
