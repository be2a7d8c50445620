from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.neighbors import KNeighborsClassifier

from cbirbench.interfaces import Evidence
from cbirbench.metrics.knn_accuracy import KnnAccuracy, KnnAccuracyOptions
from cbirbench.ranking import rank


def metric(**options):
    return KnnAccuracy(KnnAccuracyOptions(**options))


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


def slow_vote(labels):
    counts = Counter(labels)
    return min(label for label, count in counts.items() if count == max(counts.values()))


def test_hand_worked_queries():
    # The five nearest of six: three say 1, two say 0. The sixth is not asked.
    found = metric().per_query(evidence([1, 0], [0, 1, 1, 1, 0, 0], [[1, 0, 2, 3, 4, 5]] * 2))
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 0.0]


def test_tied_votes_go_to_the_smallest_label():
    # Two votes each for 7 and 3; the nearest neighbour says 7, and 3 wins.
    found = metric(k=4).per_query(evidence([3, 7], [7, 3, 3, 7, 0], [[0, 1, 2, 3]] * 2))
    assert found.tolist() == [1.0, 0.0]


def test_a_label_that_the_gallery_lacks_is_never_right():
    assert metric(k=1).per_query(evidence([5, -1], [0, 1], [[0], [1]])).tolist() == [0.0, 0.0]


def test_name_depth_and_need():
    assert (metric().name, metric().depth, metric(k=3).name) == ("knn-accuracy@5", 5, "knn-accuracy@3")
    assert metric().needs == "ranking"


@given(st.data())
def test_it_equals_a_slow_loop(data):
    k = data.draw(st.integers(1, 8))
    gallery = data.draw(st.lists(st.integers(-2, 3), min_size=k, max_size=20))
    queries = data.draw(st.lists(st.integers(-2, 3), min_size=1, max_size=5))
    orders = [data.draw(st.permutations(range(len(gallery)))) for _ in queries]
    found = metric(k=k).per_query(evidence(queries, gallery, orders))
    expected = [
        float(slow_vote([gallery[position] for position in order[:k]]) == label)
        for label, order in zip(queries, orders, strict=True)
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("classes", [2, 4])
def test_it_equals_scikit_learn(k, classes):
    generator = np.random.default_rng(10 * k + classes)
    gallery, queries = (generator.standard_normal((n, 6)).astype(np.float32) for n in (90, 60))
    gallery_labels, query_labels = (generator.integers(0, classes, n) for n in (90, 60))
    neighbours = rank(queries, gallery, [f"{number:03d}" for number in range(90)], k).neighbours
    found = metric(k=k).per_query(evidence(query_labels, gallery_labels, neighbours))
    classifier = KNeighborsClassifier(n_neighbors=k).fit(gallery, gallery_labels)
    np.testing.assert_allclose(found, classifier.predict(queries) == query_labels, atol=1e-9)
    assert found.mean() == pytest.approx(classifier.score(queries, query_labels), abs=1e-9)


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match="knn-accuracy@5 needs 5 neighbours, got 2"):
        metric().per_query(evidence([1], [0, 1], [[0, 1]]))


def test_k_below_one_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        metric(k=0)
