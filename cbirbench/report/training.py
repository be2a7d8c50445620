"""How the training runs of a benchmark went: losses, and whether embeddings collapsed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cbirbench.report.scoreboard import plain

if TYPE_CHECKING:
    import pandas as pd

COLLAPSE = 0.3
"""Embeddings count as collapsed below this share of 1/sqrt(d), their deviation when spread evenly."""

COLLAPSED_RANK = 2.0
"""They count as collapsed as well below this effective rank: they then lie on little more than a line."""


@dataclass(frozen=True)
class TrainingRun:
    """One training run.

    Attributes:
        extractor: Canonical name.
        run: From 0.
        epochs: How many were recorded.
        first_loss: Loss of the first epoch.
        last_loss: Loss of the last.
        deviation: Mean standard deviation of the L2-normalised embeddings' coordinates after the last epoch;
            NaN where it was not watched.
        even: 1/sqrt(d), that deviation where embeddings spread evenly over d dimensions; NaN likewise.
        rank: Effective rank of the embeddings after the last epoch; NaN likewise.
    """

    extractor: str
    run: int
    epochs: int
    first_loss: float
    last_loss: float
    deviation: float
    even: float
    rank: float

    @property
    def warning(self) -> str:
        """What went wrong, as plain text; empty where nothing did."""
        wrong = []
        if self.deviation < COLLAPSE * self.even:
            wrong.append(f"embeddings collapsed (deviation below {COLLAPSE:g}/sqrt(d))")
        elif self.rank < COLLAPSED_RANK:
            wrong.append(f"embeddings collapsed (effective rank below {COLLAPSED_RANK:g})")
        if math.isnan(self.last_loss):
            wrong.append("the loss is not a number")
        elif self.epochs > 1 and not self.last_loss < self.first_loss:
            wrong.append("the loss did not fall")
        return "; ".join(wrong)


def training_runs(training: pd.DataFrame | None) -> list[TrainingRun]:
    """Sum up each training run, in the order in which they first appear.

    Args:
        training: One row an epoch: extractor, run, epoch, loss and, where watched, embedding_std,
            embedding_dim and embedding_rank. None or empty where nothing was trained.
    """
    if training is None or training.empty:
        return []
    runs = []
    for name, run in training[["extractor", "run"]].drop_duplicates().itertuples(index=False):
        epochs = training[(training["extractor"] == name) & (training["run"] == run)].sort_values("epoch")
        first, last = epochs.iloc[0], epochs.iloc[-1]
        dimension = float(last.get("embedding_dim", math.nan))
        runs.append(
            TrainingRun(
                extractor=str(name),
                run=int(run),
                epochs=len(epochs),
                first_loss=float(first["loss"]),
                last_loss=float(last["loss"]),
                deviation=float(last.get("embedding_std", math.nan)),
                even=1 / math.sqrt(dimension) if dimension > 0 else math.nan,
                rank=float(last.get("embedding_rank", math.nan)),
            )
        )
    return runs


def training_warnings(training: pd.DataFrame | None) -> list[str]:
    """A line for each training run that went wrong, as plain text."""
    return [
        f"{plain(item.extractor)}, run {item.run}: {item.warning}."
        for item in training_runs(training)
        if item.warning
    ]
