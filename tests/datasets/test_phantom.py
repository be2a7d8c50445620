import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from cbirbench.datasets.phantom import Phantom, PhantomOptions
from cbirbench.datasets.reconstruction import Scan
from cbirbench.errors import DataError, UsageError
from cbirbench.slices import Slices

SMALL = PhantomOptions(gallery_volumes=2, query_volumes=1, slices_per_kind=2, size=64)


class Cohort:
    """A whole phantom, read, with each slice's relative position in its scan."""

    def __init__(self, **options: int) -> None:
        benchmark = Phantom(PhantomOptions(**options))
        self.slices: dict[str, list] = {"gallery": [], "query": []}
        self.volumes: list[Slices] = []
        self.positions: dict[str, list[float]] = {"gallery": [], "query": []}
        for source in benchmark.sources():
            slices = benchmark.read(source)
            number = int(source.volume_id.removeprefix("phantom_"))
            count = Scan(options.get("seed", 0), number, 64).count
            self.volumes.append(slices)
            self.slices[source.split] += list(slices)
            self.positions[source.split] += [item.z_index / (count - 1) for item in slices]

    def labels(self, split: str) -> np.ndarray:
        return np.array([item.label for item in self.slices[split]])

    def histograms(self, split: str) -> np.ndarray:
        rows = []
        for item in self.slices[split]:
            counts, _ = np.histogram(np.clip(item.hu, -200, 300), bins=64, range=(-200, 300))
            rows.append(counts / counts.sum())
        return np.array(rows)

    def map_at_5(self, gallery: np.ndarray, query: np.ndarray) -> float:
        scores = []
        for vector, wanted in zip(query, self.labels("query"), strict=True):
            distances = np.sqrt(((gallery - vector) ** 2).reshape(len(gallery), -1).sum(axis=1))
            hits = self.labels("gallery")[np.argsort(distances, kind="stable")[:5]] == wanted
            scores.append(np.mean([hits[:k].mean() for k in range(1, 6)]))
        return float(np.mean(scores))

    def map_of_position(self) -> float:
        return self.map_at_5(np.array(self.positions["gallery"]), np.array(self.positions["query"]))

    def map_of_histogram(self) -> float:
        return self.map_at_5(self.histograms("gallery"), self.histograms("query"))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


def test_position_in_the_scan_is_neither_useless_nor_enough(cohort):
    assert 0.55 < cohort.map_of_position() < 0.95


def test_a_histogram_is_neither_useless_nor_enough(cohort):
    assert 0.55 < cohort.map_of_histogram() < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_cohorts_are_as_hard(seed):
    other = Cohort(seed=seed)
    assert 0.55 < other.map_of_position() < 0.95
    assert 0.55 < other.map_of_histogram() < 0.95


def test_label_is_no_function_of_position(cohort):
    positions = np.array(cohort.positions["gallery"] + cohort.positions["query"])
    labels = np.concatenate([cohort.labels("gallery"), cohort.labels("query")])
    for low in (0.2, 0.3, 0.4, 0.8):  # the same position, with liver in some bodies and without in others
        assert set(labels[(positions >= low) & (positions < low + 0.1)]) == {0, 1}
    order = labels[np.argsort(positions, kind="stable")]
    ones = np.concatenate([[0], np.cumsum(order)])
    zeros = np.concatenate([[0], np.cumsum(1 - order)])
    # The best rule "liver from a to b": right on ones inside and zeros outside.
    best = max(
        ones[b] - ones[a] + zeros[a] + zeros[-1] - zeros[b]
        for a in range(len(order))
        for b in range(a, len(order) + 1)
    )
    assert best / len(order) < 0.9


def test_liver_free_slices_lie_on_either_side_of_the_liver(cohort):
    below = above = 0
    for slices in cohort.volumes:
        with_liver = [item.z_index for item in slices if item.label]
        below += sum(item.z_index < min(with_liver) for item in slices if not item.label)
        above += sum(item.z_index > max(with_liver) for item in slices if not item.label)
    assert below + above == 5 * len(cohort.volumes)
    assert min(below, above) > 0.2 * (below + above)


def test_labels_are_the_masks_and_balanced(cohort):
    assert len(cohort.slices["gallery"]) == 200 and len(cohort.slices["query"]) == 120
    for split in ("gallery", "query"):
        assert cohort.labels(split).mean() == 0.5
        for item in cohort.slices[split]:
            assert item.target is not None and item.label == int(item.target.any())
            np.testing.assert_array_equal(item.target, np.isin(item.mask, (1, 2)))
    fractions = [item.mask_fraction for item in cohort.slices["gallery"] if item.label]
    assert 0.04 < np.mean(fractions) < 0.12
    assert any((item.mask == 2).any() for item in cohort.slices["gallery"])


def test_every_structure_is_named_and_met_where_it_lies(cohort):
    names = Phantom(SMALL).structures
    met = {int(value) for item in cohort.slices["gallery"] for value in np.unique(item.mask)}
    assert met == {0, *names}
    by_name = {name: value for value, name in names.items()}
    hu = {name: [] for name in names.values()}
    for item in cohort.slices["gallery"]:
        for name, value in by_name.items():
            hu[name].append(item.hu[item.mask == value])
    medians = {name: float(np.median(np.concatenate(values))) for name, values in hu.items()}
    assert 0 < medians["tumour"] < medians["liver"] < medians["spleen"] + 40 < medians["kidneys"] + 40
    assert medians["spine"] > 150 and medians["ribs"] > 150
    # The spine lies behind the middle, the spleen on the patient's left: the image's right.
    spine = np.concatenate([np.argwhere(item.mask == by_name["spine"]) for item in cohort.slices["gallery"]])
    spleen = np.concatenate(
        [np.argwhere(item.mask == by_name["spleen"]) for item in cohort.slices["gallery"]]
    )
    assert spine[:, 0].mean() > 135 and abs(spine[:, 1].mean() - 127.5) < 15
    assert spleen[:, 1].mean() > 160


def test_identity_of_slices(cohort):
    every = [item for slices in cohort.volumes for item in slices]
    assert len({item.slice_id for item in every}) == len(every)
    patients = {split: {item.patient_id for item in items} for split, items in cohort.slices.items()}
    assert len(patients["gallery"]) == 20 and len(patients["query"]) == 12
    assert not patients["gallery"] & patients["query"]
    first = cohort.volumes[3][0]
    assert first.volume_id == "phantom_3" and first.slice_id == f"phantom_3_z{first.z_index:04d}"
    assert [item.z_index for item in cohort.volumes[3]] == sorted(item.z_index for item in cohort.volumes[3])


def test_sources_come_gallery_first_and_say_what_shapes_them():
    sources = Phantom(SMALL).sources()
    assert [source.split for source in sources] == ["gallery", "gallery", "query"]
    assert [source.volume_id for source in sources] == ["phantom_0", "phantom_1", "phantom_2"]
    for change in ({"seed": 1}, {"size": 65}, {"slice_seed": 1}, {"slices_per_kind": 3}):
        changed = Phantom(SMALL.model_copy(update=change)).sources()
        assert all(a.fingerprint != b.fingerprint for a, b in zip(sources, changed, strict=True)), change
    # A body's slices do not depend on how many others there are, so nor does its fingerprint.
    more = Phantom(SMALL.model_copy(update={"query_volumes": 2})).sources()
    assert more[0].fingerprint == sources[0].fingerprint


def test_reading_is_deterministic_and_survives_pickling():
    benchmark = Phantom(SMALL)
    sources = benchmark.sources()
    forth = [benchmark.read(source).fingerprint() for source in sources]
    np.random.seed(7)
    other = pickle.loads(pickle.dumps(Phantom(SMALL)))
    back = [other.read(source).fingerprint() for source in reversed(sources)]
    assert forth == back[::-1]
    assert len(set(forth)) == 3


def test_slices_are_the_scan_s(cohort):
    scan = Scan(0, 21, 256)
    item = cohort.volumes[21][4]
    hu, mask = scan.render(item.z_index)
    np.testing.assert_array_equal(item.hu, hu)
    np.testing.assert_array_equal(item.mask, mask)
    assert item.spacing_mm == scan.spacing_mm[:2]


def test_more_slices_than_a_body_has_are_an_error():
    benchmark = Phantom(SMALL.model_copy(update={"slices_per_kind": 5000}))
    with pytest.raises(DataError, match=r"phantom_0 has .* slices with the target organ, but 5000"):
        benchmark.read(benchmark.sources()[0])


@pytest.mark.parametrize("name", ["liver_0", "phantom_", "phantom_x", "phantom_01"])
def test_a_foreign_source_is_an_error(name):
    import dataclasses

    source = dataclasses.replace(Phantom(SMALL).sources()[0], volume_id=name)
    with pytest.raises(UsageError, match=name):
        Phantom(SMALL).read(source)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"gallery_volumes": 0}, {"seed": -1}, {"bodies": 3}])
def test_options_are_bounded(wrong):
    with pytest.raises(ValidationError):
        PhantomOptions(**wrong)
