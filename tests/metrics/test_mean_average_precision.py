import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cbirbench.interfaces import Evidence
from cbirbench.metrics.mean_average_precision import MeanAveragePrecision, MeanAveragePrecisionOptions


def metric(**options):
    return MeanAveragePrecision(MeanAveragePrecisionOptions(**options))


def evidence(query_labels, gallery_labels, neighbours):
    neighbours = np.array(neighbours, dtype=np.int64)
    return Evidence(
        query_labels=np.array(query_labels, dtype=np.int64),
        gallery_labels=np.array(gallery_labels, dtype=np.int64),
        neighbours=neighbours,
        distances=np.zeros(neighbours.shape),
        query_embeddings=np.zeros((len(query_labels), 1), dtype=np.float32),
        gallery_embeddings=np.zeros((len(gallery_labels), 1), dtype=np.float32),
        maps=[None] * len(query_labels),
        masks=[None] * len(query_labels),
    )


def slow_map(query_label, labels):
    precisions = []
    for k in range(1, len(labels) + 1):
        relevant = sum(1 for label in labels[:k] if label == query_label)
        precisions.append(relevant / k)
    return sum(precisions) / len(precisions)


def test_hand_worked_queries():
    # Neighbours' labels 1 0 1 1 0: precision 1, 1/2, 2/3, 3/4, 3/5 for label 1,
    # and 0, 1/2, 1/3, 1/4, 2/5 for label 0.
    found = metric().per_query(evidence([1, 0], [0, 1, 1, 1, 0], [[1, 0, 2, 3, 4]] * 2))
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx(
        [(1 + 1 / 2 + 2 / 3 + 3 / 4 + 3 / 5) / 5, (1 / 2 + 1 / 3 + 1 / 4 + 2 / 5) / 5], abs=1e-12
    )


def test_it_is_not_the_usual_average_precision():
    # One relevant slice, at rank 2: average precision would be 1/2.
    found = metric(k=2).per_query(evidence([1], [0, 1], [[0, 1]]))
    assert found.tolist() == [0.25]


def test_the_released_profile_has_its_own_depth_and_name():
    schema = MeanAveragePrecisionOptions.model_fields["k"].json_schema_extra
    assert schema["profiles"] == {"released-code": 4}
    paper, released = metric(), metric(k=4)
    assert (paper.name, paper.depth, released.name, released.depth) == ("map@5", 5, "map@4", 4)
    assert paper.needs == "ranking"


@given(st.data())
def test_it_equals_a_slow_loop(data):
    k = data.draw(st.integers(1, 8))
    gallery = data.draw(st.lists(st.integers(0, 3), min_size=k, max_size=20))
    queries = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    orders = [data.draw(st.permutations(range(len(gallery)))) for _ in queries]
    found = metric(k=k).per_query(evidence(queries, gallery, orders))
    expected = [
        slow_map(label, [gallery[position] for position in order[:k]])
        for label, order in zip(queries, orders, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.shape == (len(queries),)
    assert ((found >= 0) & (found <= 1)).all()


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match="map@5 needs 5 neighbours, got 2"):
        metric().per_query(evidence([1], [0, 1], [[0, 1]]))


def test_k_below_one_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        metric(k=0)
