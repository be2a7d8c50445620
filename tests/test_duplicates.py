import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, zoom

from cbirbench.datasets.phantom import Phantom, PhantomOptions
from cbirbench.duplicates import (
    CLOSE_SHARE,
    SIMILAR_BITS,
    DuplicatePair,
    duplicates_by_embedding,
    duplicates_by_hash,
)
from cbirbench.slices import CTSlice, Slices, pad_to_square

TURNS = [
    lambda hu, k=k, flip=flip: np.rot90(hu[:, ::-1] if flip else hu, k) for k in range(4) for flip in (0, 1)
]


def sliced(hu, patient="a", place=0, prefix="") -> CTSlice:
    return CTSlice(
        hu=np.ascontiguousarray(hu, dtype=np.int16),
        mask=None,
        slice_id=f"{prefix}{patient}_z{place}",
        patient_id=patient,
        study_id=patient,
        volume_id=patient,
        z_index=place,
        label=0,
    )


def body(seed: int, shape=(96, 96)) -> np.ndarray:
    """A smooth random picture in HU, unlike that of any other seed."""
    noise = np.random.default_rng(seed).normal(size=(96, 96))
    smooth = gaussian_filter(noise, 4)
    hu = 50 + 150 * smooth / smooth.std()
    return np.rint(zoom(hu, (shape[0] / 96, shape[1] / 96), order=1)).astype(np.int16)


@pytest.fixture(scope="module")
def phantom() -> Slices:
    benchmark = Phantom(PhantomOptions(gallery_volumes=8, query_volumes=1, size=96, slices_per_kind=2))
    return Slices(tuple(item for source in benchmark.sources() for item in benchmark.read(source)))


def renamed(items, patient) -> Slices:
    return Slices(
        tuple(replace(item, slice_id=f"{patient}_{n}", patient_id=patient) for n, item in enumerate(items))
    )


def slow_bits(hu) -> list[bool]:
    """The hash by its definition: pixels split into 64 x 64, so that parts are whole numbers of them."""
    square = np.clip(pad_to_square(hu).astype(float), -200, 300)
    side = len(square)
    fine = np.repeat(np.repeat(square, 64, axis=0), 64, axis=1)
    thumbnail = fine.reshape(64, side, 64, side).mean(axis=(1, 3))
    kept = dctn(thumbnail, norm="ortho")[1:17, 1:17].ravel()
    return (kept > np.median(kept)).tolist()


def slow_pairs(gallery, queries):
    found, stored = [], [(item, slow_bits(item.hu)) for item in gallery]
    for query in queries:
        best, turned = {}, [slow_bits(turn(query.hu)) for turn in TURNS]
        for item, hashed in stored:
            if item.patient_id == query.patient_id:
                continue
            bits = min(sum(a != b for a, b in zip(asked, hashed, strict=True)) for asked in turned)
            if np.array_equal(query.hu, item.hu):
                pair = DuplicatePair(query.slice_id, item.slice_id, "identical", 0.0)
            elif bits <= SIMILAR_BITS:
                pair = DuplicatePair(query.slice_id, item.slice_id, "similar", float(bits))
            else:
                continue
            key = (pair.how, pair.distance)
            if item.patient_id not in best or key < best[item.patient_id][0]:
                best[item.patient_id] = (key, pair)
        found += [pair for _, pair in sorted(best.values(), key=lambda entry: entry[0])]
    return found


def test_the_same_hu_under_another_name_is_identical():
    gallery = Slices((sliced(body(1), "a"), sliced(body(2), "b"), sliced(body(3), "b", 1)))
    queries = Slices((sliced(body(2), "x"), sliced(body(4), "x", 1)))
    assert duplicates_by_hash(gallery, queries) == [DuplicatePair("x_z0", "b_z0", "identical", 0.0)]


def test_one_voxel_makes_it_similar():
    changed = body(2)
    changed[40, 40] += 1
    found = duplicates_by_hash(Slices((sliced(body(2), "b"),)), Slices((sliced(changed, "x"),)))
    assert [(pair.how, pair.distance <= 4) for pair in found] == [("similar", True)]


def test_as_slow_and_plain_code_finds():
    generator = np.random.default_rng(0)
    own = [sliced(body(n, (40, 30 + 4 * (n % 3))), f"g{n // 3}", n) for n in range(9)]
    copies = [
        sliced(own[1].hu, "q0", 0),
        sliced(own[2].hu + generator.normal(0, 15, own[2].hu.shape), "q0", 1),
        sliced(own[4].hu[::-1].T, "q0", 2),
        sliced(own[5].hu, "g1", 50),  # its own patient
        sliced(own[7].hu[:, ::-1] + 5, "q1", 3),
        sliced(body(77, (40, 40)), "q1", 4),
    ]
    gallery = Slices((*own, sliced(own[2].hu + 3, "g9", 60), sliced(own[2].hu + 2, "g9", 61)))
    queries = Slices(tuple(copies))
    found = duplicates_by_hash(gallery, queries)
    assert found == slow_pairs(gallery, queries)
    assert [(pair.query_id, pair.gallery_id) for pair in found[:1]] == [("q0_z0", "g0_z1")]
    assert {pair.query_id for pair in found} == {"q0_z0", "q0_z1", "q0_z2", "q1_z3"}
    assert {pair.gallery_id[:2] for pair in found if pair.query_id == "q0_z1"} == {"g0", "g9"}


@pytest.mark.parametrize(
    "changed",
    [
        lambda hu, generator: hu + generator.normal(0, 25, hu.shape),
        lambda hu, generator: zoom(hu, 0.5, order=1),
        lambda hu, generator: zoom(hu, 1.5, order=1),
        lambda hu, generator: np.rint((hu.clip(-200, 300) + 200) / 500 * 255) / 255 * 500 - 200,
        lambda hu, generator: hu + 10,
        lambda hu, generator: hu[:, ::-1],
        lambda hu, generator: hu[::-1],
        lambda hu, generator: hu[::-1, ::-1].T,
    ],
    ids=["noise", "half the size", "larger", "8 bits", "offset", "mirrored", "upside down", "turned"],
)
def test_copies_are_found_and_other_bodies_are_not(phantom, changed):
    generator = np.random.default_rng(0)
    items = [item for item in phantom if item.patient_id == "phantom_3"]
    copies = [
        replace(item, hu=np.rint(changed(item.hu, generator)).astype(np.int16), mask=None) for item in items
    ]
    found = duplicates_by_hash(phantom, renamed(copies, "stranger"))
    assert {pair.query_id for pair in found} == {f"stranger_{n}" for n in range(len(items))}
    # A neighbour of the same scan may look the same; another body does not.
    assert {pair.gallery_id.rpartition("_z")[0] for pair in found} == {"phantom_3"}
    assert {pair.how for pair in found} == {"similar"}


def test_bodies_of_the_phantom_are_told_apart(phantom):
    half = len(phantom) // 2
    assert duplicates_by_hash(phantom[:half], phantom[half:]) == []


def test_one_patients_slices_are_no_find():
    item = sliced(body(1), "a")
    assert duplicates_by_hash(Slices((item,)), Slices((item,))) == []


def test_slices_that_show_nothing_are_left_out():
    air = np.full((80, 80), -1000)
    noise = np.random.default_rng(0).normal(-1000, 30, (80, 80))
    gallery = Slices((sliced(air, "a", 0), sliced(noise, "a", 1)))
    queries = Slices((sliced(air, "b", 0), sliced(noise + 1, "b", 1), sliced(body(1), "b", 2)))
    assert duplicates_by_hash(gallery, queries) == []
    # The very same noise is no accident.
    same = Slices((sliced(noise, "c"),))
    assert [pair.how for pair in duplicates_by_hash(gallery, same)] == ["identical"]


def test_one_pair_a_query_and_patient_the_nearest():
    hu = body(5)
    near, far = hu.copy(), hu + np.random.default_rng(0).normal(0, 60, hu.shape)
    gallery = Slices((sliced(far, "a", 0), sliced(near, "a", 1), sliced(near, "a", 2), sliced(far, "b")))
    found = duplicates_by_hash(gallery, Slices((sliced(hu, "x"),)))
    assert [(pair.gallery_id, pair.how) for pair in found] == [("a_z1", "identical"), ("b_z0", "similar")]


def test_nothing_to_compare():
    one = Slices((sliced(body(1)),))
    assert duplicates_by_hash(Slices(()), one) == duplicates_by_hash(one, Slices(())) == []


# By embedding.


def points(values, patients, prefix=""):
    vectors = np.array(values, dtype=np.float32)
    if vectors.ndim == 1:
        vectors = vectors[:, None]
    items = [sliced(np.zeros((2, 2)), name, n, prefix) for n, name in enumerate(patients)]
    return vectors, Slices(tuple(items))


def slow_close(gallery_vectors, query_vectors, gallery, queries):
    nearest = []
    for vector, item in zip(gallery_vectors.tolist(), gallery, strict=True):
        others = [
            math.dist(vector, other)
            for other, there in zip(gallery_vectors.tolist(), gallery, strict=True)
            if there.patient_id != item.patient_id
        ]
        nearest.append(min(others))
    usual = sorted(nearest)
    usual = (usual[(len(usual) - 1) // 2] + usual[len(usual) // 2]) / 2
    if usual == 0 or sum(d < CLOSE_SHARE * usual for d in nearest) > 0.05 * len(nearest):
        return None
    found = []
    for vector, item in zip(query_vectors.tolist(), queries, strict=True):
        best = {}
        for other, there in zip(gallery_vectors.tolist(), gallery, strict=True):
            share = math.dist(vector, other) / usual
            if there.patient_id != item.patient_id and share < CLOSE_SHARE:
                best[there.patient_id] = min(
                    best.get(there.patient_id, (9.0, "")), (share, there.slice_id), key=lambda pair: pair[0]
                )
        found += [(item.slice_id, name, share) for share, name in sorted(best.values())]
    return found


def test_close_by_hand():
    # Patients a, b and c at 0, 10 and 20: the usual distance is 10, so 4 is the limit, itself excluded.
    gallery_vectors, gallery = points([0, 10, 20], "abc")
    query_vectors, queries = points([1, 6, 13.5, 24, 20], "xxxxc")
    found = duplicates_by_embedding(gallery_vectors, query_vectors, gallery, queries)
    assert found == [
        DuplicatePair("x_z0", "a_z0", "close", 0.1),
        DuplicatePair("x_z2", "b_z1", "close", 0.35),
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(4, 12), st.integers(1, 6), st.integers(-20, 20), st.floats(-50, 50)
)
def test_close_as_plain_code_finds_whatever_the_scale(seed, count, width, exponent, shift):
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, 4, count).tolist()
    patients[:2] = [0, 1]
    gallery_vectors, gallery = points(generator.normal(size=(count, width)), [f"p{n}" for n in patients])
    chosen = gallery_vectors[generator.integers(0, count, 5)]
    moved = chosen + generator.normal(0, generator.choice([0.01, 0.3, 1.0], (5, 1)), (5, width))
    query_vectors, queries = points(moved, ["q", "p0", "q", "p1", "q"], "query ")
    expected = slow_close(gallery_vectors, query_vectors, gallery, queries)
    found = duplicates_by_embedding(gallery_vectors, query_vectors, gallery, queries)
    if expected is None:
        assert found is None
        return
    assert [(pair.query_id, pair.gallery_id) for pair in found] == [entry[:2] for entry in expected]
    # 1e-6: squared distances are differences of larger numbers.
    np.testing.assert_allclose([pair.distance for pair in found], [entry[2] for entry in expected], atol=1e-6)
    factor = np.float32(2.0**exponent)  # exact in float32
    again = duplicates_by_embedding(gallery_vectors * factor, query_vectors * factor, gallery, queries)
    assert again == found


def test_wide_vectors_are_taken_in_parts():
    generator = np.random.default_rng(0)
    gallery_vectors = generator.normal(size=(30, 5000)).astype(np.float32)
    query_vectors = gallery_vectors[[3, 17]] + generator.normal(0, 0.1, (2, 5000)).astype(np.float32)
    _, gallery = points(np.zeros(30), [f"p{n // 3}" for n in range(30)])
    _, queries = points(np.zeros(2), "xy")
    found = duplicates_by_embedding(gallery_vectors, query_vectors, gallery, queries)
    assert [(pair.query_id, pair.gallery_id) for pair in found] == [("x_z0", "p1_z3"), ("y_z1", "p5_z17")]
    np.testing.assert_allclose([pair.distance for pair in found], 0.1 / math.sqrt(2), rtol=0.1)


@pytest.mark.parametrize(
    ("values", "patients"),
    [
        ([3.0, 3.0, 3.0, 3.0], "abcd"),
        ([1000.0, 1000.0001, 1000.0002, 1000.0003], "abcd"),  # collapsed but for rounding
        ([0.0, 1.0, 2.0, 5.0], "aaaa"),
        ([0, 0.1, 10, 20, 30, 40], "abcdef"),  # two of six are close in the gallery itself
    ],
    ids=["constant", "collapsed", "one patient", "close among themselves"],
)
def test_distances_that_say_nothing(values, patients):
    gallery_vectors, gallery = points(values, patients)
    query_vectors, queries = points(values[:2], "xy")
    assert duplicates_by_embedding(gallery_vectors, query_vectors, gallery, queries) is None


def test_vectors_of_other_slices_are_refused():
    gallery_vectors, gallery = points([0, 10], "ab")
    with pytest.raises(ValueError, match="came with"):
        duplicates_by_embedding(gallery_vectors[:1], gallery_vectors, gallery, gallery)
