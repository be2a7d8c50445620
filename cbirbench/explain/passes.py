"""Masked images through an extractor: batches that fit into memory, and the cosines of what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from cbirbench.errors import PluginError
from cbirbench.extraction import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor


class Passes:
    """Forward passes of one extractor; where memory runs out, batches are halved for good.

    Args:
        embed: Embeds prepared images; see `cbirbench.interfaces.Explainable`.
        name: The extractor's, for messages.
        narrowed: Is told the new batch size whenever memory ran out and the batch was halved.
    """

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        name: str,
        narrowed: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._embed, self._name, self._narrowed = embed, name, narrowed
        self._most: int | None = None

    def direction(self, image: Tensor) -> Tensor:
        """The embedding of one whole image, scaled to length 1, float64, shape ``(d,)``.

        By itself, since a batch's last digits depend on what else is in it. A zero embedding stays zero.
        """
        return self._directions(1, lambda _: image)[0]

    def similarities(self, image: Tensor, masks: Tensor, whole: Tensor, fill: float) -> Tensor:
        """Cosines of one image under each mask with its whole; 0 where a masked image embeds to zero.

        Args:
            image: Shape ``(1, channels, height, width)``.
            masks: Shape ``(b, 1, height, width)``.
            whole: The whole image's direction, shape ``(d,)``.
            fill: What a hidden pixel shows.

        Returns:
            float64, shape ``(b,)``.

        Raises:
            PluginError: The embeddings have a wrong shape.
        """

        def masked(part: slice) -> Tensor:
            shown = image * masks[part]
            return shown if fill == 0 else shown + fill * (1 - masks[part])

        directions = self._directions(len(masks), masked)
        if directions.shape[1] != len(whole):
            raise self._unusable(
                f"{directions.shape[1]} values for a masked image, {len(whole)} for a whole one"
            )
        return directions @ whole

    def _directions(self, count: int, images: Callable[[slice], Tensor]) -> Tensor:
        found: list[Tensor] = []
        start = 0
        while start < count:
            size = min(self._most or count, count - start)
            try:
                found.append(self._unit(images(slice(start, start + size))))
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                self._most = size // 2
                error.__traceback__ = None  # it holds the tensors that filled the memory
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self._narrowed(self._most)
            else:
                start += size
        return torch.cat(found)

    def _unit(self, batch: Tensor) -> Tensor:
        embeddings = self._embed(batch)
        if embeddings.ndim != 2 or len(embeddings) != len(batch):
            raise self._unusable(f"shape {tuple(embeddings.shape)} for {len(batch)} images")
        embeddings = embeddings.to(batch.device, torch.float64)
        lengths = torch.sqrt((embeddings**2).sum(dim=1, keepdim=True))
        return embeddings / lengths.where(lengths > 0, torch.ones_like(lengths))

    def _unusable(self, received: str) -> PluginError:
        return PluginError(
            f"While RELAX explained it, {self._name}.embed returned {received}.",
            "It must return embeddings of shape (images, d) for prepared images times masks in 0..1.",
        )
