from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cbirbench.interfaces import Evidence


@pytest.fixture(scope="session")
def explained() -> Callable[..., Evidence]:
    """Makes the evidence of queries with these maps and masks, and nothing else in it."""

    def evidence(maps, masks) -> Evidence:
        count = len(maps)
        return Evidence(
            query_labels=np.zeros(count, dtype=np.int64),
            gallery_labels=np.zeros(1, dtype=np.int64),
            neighbours=np.zeros((count, 0), dtype=np.int64),
            distances=np.zeros((count, 0)),
            query_embeddings=np.zeros((count, 2), dtype=np.float32),
            gallery_embeddings=np.zeros((1, 2), dtype=np.float32),
            maps=maps,
            masks=masks,
        )

    return evidence
