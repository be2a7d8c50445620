import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbirbench import ranking
from cbirbench.errors import PluginError, UsageError
from cbirbench.ranking import Ranking, rank, rank_within


def ids_of(count):
    """Ids whose order differs from the positions' and, as strings, from the numbers'."""
    return [
        f"slice_{(7 * number + 3) % count if math.gcd(7, count) == 1 else number}" for number in range(count)
    ]


def slow_distance(query, vector, distance):
    query, vector = [float(value) for value in query], [float(value) for value in vector]
    if distance == "euclidean":
        return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(query, vector, strict=True)))
    lengths = math.sqrt(math.fsum(a * a for a in query)), math.sqrt(math.fsum(b * b for b in vector))
    pairs = zip(query, vector, strict=True)
    return math.fsum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in pairs) / 2


def slow_rank(queries, gallery, ids, depth, distance="euclidean"):
    neighbours, distances = [], []
    for query in queries:
        ordered = sorted(
            (slow_distance(query, vector, distance), ids[position], position)
            for position, vector in enumerate(gallery)
        )[:depth]
        neighbours.append([position for _, _, position in ordered])
        distances.append([found for found, _, _ in ordered])
    return np.array(neighbours), np.array(distances)


def rank_in_a_batch(queries, gallery, ids, depth, distance="euclidean"):
    """Rank so many queries at once that FAISS takes its inexact route."""
    copies = -(-120 // len(queries))
    found = rank(np.tile(queries, (copies, 1)), gallery, ids, depth, distance)
    for part in (found.neighbours, found.distances):
        np.testing.assert_array_equal(part, np.tile(part[: len(queries)], (copies, 1)))
    return Ranking(found.neighbours[: len(queries)], found.distances[: len(queries)])


def count_whole_comparisons(monkeypatch, gallery_size):
    """How often a query is compared with the whole gallery."""
    calls = []
    nearest = ranking._nearest

    def counted(query, gallery, candidates, *rest):
        if len(candidates) == gallery_size:
            calls.append(len(candidates))
        return nearest(query, gallery, candidates, *rest)

    monkeypatch.setattr(ranking, "_nearest", counted)
    return calls


def test_a_case_by_hand():
    queries = np.array([[0, 0], [3, 4]], dtype=np.float32)
    gallery = np.array([[3, 4], [0, 1], [0, -1], [6, 8]], dtype=np.float32)
    found = rank(queries, gallery, ["d", "c", "b", "a"], depth=3)
    assert found.neighbours.tolist() == [[2, 1, 0], [0, 1, 3]]  # b before c at distance 1
    assert found.distances[0].tolist() == [1.0, 1.0, 5.0]
    assert found.distances[1].tolist() == pytest.approx([0.0, math.sqrt(18), 5.0], abs=1e-15)
    assert (found.neighbours.dtype, found.distances.dtype) == (np.int64, np.float64)


def test_cosine_by_hand():
    queries = np.array([[2, 0]], dtype=np.float32)
    gallery = np.array([[0, 5], [1, 1], [8, 0], [-3, 0]], dtype=np.float32)
    found = rank(queries, gallery, ["a", "b", "c", "d"], depth=4, distance="cosine")
    assert found.neighbours.tolist() == [[2, 1, 0, 3]]
    np.testing.assert_allclose(found.distances[0], [0, 1 - math.sqrt(0.5), 1, 2], atol=1e-15)


def test_ids_are_compared_as_strings():
    gallery = np.ones((3, 2), dtype=np.float32)
    found = rank(gallery[:1], gallery, ["liver_2", "liver_10", "liver_1"], depth=3)
    assert found.neighbours.tolist() == [[2, 1, 0]]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 70),
    width=st.integers(1, 4),
    values=st.integers(2, 6),
    depth=st.integers(1, 8),
)
def test_small_whole_numbers_with_many_ties_equal_brute_force(seed, size, width, values, depth):
    generator = np.random.default_rng(seed)
    gallery = generator.integers(0, values, (size, width)).astype(np.float32)
    queries = generator.integers(0, values, (3, width)).astype(np.float32)
    depth, ids = min(depth, size), ids_of(size)
    found = rank_in_a_batch(queries, gallery, ids, depth)
    neighbours, distances = slow_rank(queries, gallery, ids, depth)
    np.testing.assert_array_equal(found.neighbours, neighbours)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-15)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(40, 90),
    exponent=st.integers(-30, 25),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
    distance=st.sampled_from(["euclidean", "cosine"]),
)
def test_any_scale_and_offset_equals_brute_force(seed, size, exponent, offset, distance):
    generator = np.random.default_rng(seed)
    scale = 10.0**exponent
    gallery = ((generator.standard_normal((size, 12)) + offset) * scale).astype(np.float32)
    queries = ((generator.standard_normal((4, 12)) + offset) * scale).astype(np.float32)
    found = rank_in_a_batch(queries, gallery, ids_of(size), 5, distance)
    neighbours, distances = slow_rank(queries, gallery, ids_of(size), 5, distance)
    np.testing.assert_array_equal(found.neighbours, neighbours)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_near_tied_wide_vectors_equal_brute_force(distance):
    # All on a thin shell about the queries' common place: FAISS alone gets the order wrong.
    import faiss

    generator = np.random.default_rng(0)
    base = generator.random(2048)
    gallery = (base + 1e-4 * generator.standard_normal((100, 2048))).astype(np.float32)
    queries = (base + 1e-5 * generator.standard_normal((6, 2048))).astype(np.float32)
    index = faiss.IndexFlatL2(2048)
    index.add(gallery)
    neighbours, distances = slow_rank(queries, gallery, ids_of(100), 5, distance)
    assert (index.search(np.tile(queries, (20, 1)), 5)[1][:6] != neighbours).any()
    found = rank_in_a_batch(queries, gallery, ids_of(100), 5, distance)
    np.testing.assert_array_equal(found.neighbours, neighbours)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)


def test_more_ties_than_spare_candidates_are_ordered_by_id(monkeypatch):
    size = 200
    gallery = np.zeros((size, 3), dtype=np.float32)
    gallery[:20] = 5.0
    ids = [f"{size - number:04d}" for number in range(size)]  # descending: the last position has the first id
    calls = count_whole_comparisons(monkeypatch, size)
    found = rank(np.zeros((2, 3), dtype=np.float32), gallery, ids, depth=4)
    assert found.neighbours.tolist() == [[199, 198, 197, 196]] * 2
    assert len(calls) == 2


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_more_near_ties_than_spare_candidates_are_ordered_exactly(monkeypatch, distance):
    # 300 vectors around the queries: distances differ by about 1e-7 of themselves, too little for FAISS.
    generator = np.random.default_rng(1)
    directions = generator.standard_normal((300, 64))
    directions[:, 0] = 0.0
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    axis = np.eye(64)[0]
    gallery = (axis + directions).astype(np.float32)
    queries = (axis + 1e-7 * generator.standard_normal((6, 64))).astype(np.float32)
    calls = count_whole_comparisons(monkeypatch, 300)
    found = rank_in_a_batch(queries, gallery, ids_of(300), 5, distance)
    neighbours, _ = slow_rank(queries, gallery, ids_of(300), 5, distance)
    np.testing.assert_array_equal(found.neighbours, neighbours)
    assert len(calls) == 120


def test_a_neighbour_whose_squares_overflow_float32_is_found():
    queries = np.zeros((1, 64), dtype=np.float32)
    queries[0, 0] = 1.7e19
    gallery = np.zeros((60, 64), dtype=np.float32)
    gallery[:, 0] = np.linspace(0, 5e18, 60)
    gallery[30, 0] = 1.71e19
    found = rank_in_a_batch(queries, gallery, ids_of(60), 2)
    neighbours, distances = slow_rank(queries, gallery, ids_of(60), 2)
    assert found.neighbours.tolist() == neighbours.tolist() == [[30, 59]]
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_well_separated_queries_need_no_whole_comparison(monkeypatch):
    generator = np.random.default_rng(2)
    gallery = (1000 + generator.standard_normal((400, 128))).astype(np.float32)
    queries = gallery[:30] + np.float32(0.01)
    calls = count_whole_comparisons(monkeypatch, 400)
    found = rank(queries, gallery, ids_of(400), 1)
    assert found.neighbours[:, 0].tolist() == list(range(30))
    assert not calls


def test_an_outlier_changes_nothing():
    generator = np.random.default_rng(3)
    gallery = generator.standard_normal((200, 32)).astype(np.float32)
    gallery[7] = 1e18
    queries = gallery[:5] + np.float32(0.01)
    found = rank_in_a_batch(queries, gallery, ids_of(200), 3)
    neighbours, _ = slow_rank(queries, gallery, ids_of(200), 3)
    np.testing.assert_array_equal(found.neighbours, neighbours)


def test_the_whole_gallery_is_compared_in_parts(monkeypatch):
    gallery = np.random.default_rng(4).integers(0, 3, (90, 5)).astype(np.float32)
    expected = rank(gallery[:8], gallery, ids_of(90), 6)
    monkeypatch.setattr(ranking, "VALUES_AT_ONCE", 35)
    found = rank(gallery[:8], gallery, ids_of(90), 6)
    np.testing.assert_array_equal(found.neighbours, expected.neighbours)
    np.testing.assert_array_equal(found.distances, expected.distances)


def test_the_batch_does_not_change_a_query():
    generator = np.random.default_rng(5)
    gallery = generator.random((150, 300)).astype(np.float32)
    queries = generator.random((40, 300)).astype(np.float32)
    together = rank(queries, gallery, ids_of(150), 5)
    for row in (0, 17, 39):
        alone = rank(queries[row : row + 1], gallery, ids_of(150), 5)
        np.testing.assert_array_equal(alone.neighbours[0], together.neighbours[row])
        np.testing.assert_array_equal(alone.distances[0], together.distances[row])


@pytest.mark.parametrize("depth", [0, 5])
def test_a_depth_outside_the_gallery_is_refused(depth):
    gallery = np.ones((4, 2), dtype=np.float32)
    with pytest.raises(UsageError, match=rf"^{depth} neighbours.*holds 4 slices"):
        rank(gallery, gallery, list("abcd"), depth)


def test_embeddings_that_cannot_be_compared_are_refused():
    gallery = np.ones((4, 2), dtype=np.float32)
    bad = gallery.copy()
    bad[1, 0] = np.nan
    with pytest.raises(PluginError, match="1 values that are NaN"):
        rank(bad, gallery, list("abcd"), 2)
    with pytest.raises(PluginError, match=r"\(4, 2\).*\(4, 3\)"):
        rank(gallery, np.ones((4, 3), dtype=np.float32), list("abcd"), 2)
    with pytest.raises(PluginError, match="float64"):
        rank(gallery, gallery.astype(np.float64), list("abcd"), 2)
    with pytest.raises(ValueError, match="3 slice ids"):
        rank(gallery, gallery, list("abc"), 2)


def test_zero_vectors_have_no_cosine_but_a_euclidean_distance():
    gallery = np.ones((4, 2), dtype=np.float32)
    gallery[2:] = 0.0
    with pytest.raises(PluginError, match="2 of 4 gallery embeddings are zero"):
        rank(gallery[:2], gallery, list("abcd"), 2, "cosine")
    assert rank(gallery[2:3], gallery, list("abcd"), 2).neighbours.tolist() == [[2, 3]]


def test_parts_of_a_gallery_are_ranked_apart_and_keep_their_positions():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    ids = ids_of(9)
    parts = [([0, 4], [1, 2, 3, 5, 8]), ([1, 2, 3, 5, 6, 7, 8], [0, 4, 6])]
    found = rank_within(parts, vectors, vectors, ids, 3)
    for asked, among in parts:
        near, far = slow_rank(vectors[asked], vectors[among], [ids[place] for place in among], 3)
        np.testing.assert_array_equal(found.neighbours[asked], np.array(among)[near])
        np.testing.assert_allclose(found.distances[asked], far, rtol=1e-12)


def test_one_part_is_the_whole_gallery():
    rng = np.random.default_rng(6)
    queries, gallery = (rng.normal(size=(n, 5)).astype(np.float32) for n in (4, 20))
    whole = rank(queries, gallery, ids_of(20), 6)
    parted = rank_within([(range(4), range(20))], queries, gallery, ids_of(20), 6)
    np.testing.assert_array_equal(parted.neighbours, whole.neighbours)
    np.testing.assert_array_equal(parted.distances, whole.distances)


def test_a_part_too_small_for_the_depth_is_refused():
    vectors = np.eye(4, dtype=np.float32)
    with pytest.raises(UsageError, match="3 neighbours a query were asked for, but the gallery holds 2"):
        rank_within([([0, 1, 2, 3], [0, 1])], vectors, vectors, ids_of(4), 3)
