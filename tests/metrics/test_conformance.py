"""Our metrics keep to the interface that third parties' are held to."""

from cbirbench.testing import MetricConformance, evidence

# Two queries with the label 1 and 0, and one gallery whose slices are their neighbours in this order.
RANKED = evidence(query_labels=[1, 0], gallery_labels=[1, 0, 1, 1])

MASK = [[True, True, False], [False, False, False]]
EXPLAINED = evidence(
    maps=[[[0.9, 0.1, 0.8], [0.2, 0.3, 0.4]], [[0.1, 0.1, 0.9], [0.2, 0.2, 0.2]], None], masks=[MASK] * 3
)
NAN = float("nan")


class TestMeanAveragePrecision(MetricConformance):
    plugin = "map"
    options = {"k": "3"}
    # 1/1, 1/2 and 2/3; 0/1, 1/2 and 1/3.
    hand_cases = [(RANKED, [(1 + 1 / 2 + 2 / 3) / 3, (1 / 2 + 1 / 3) / 3])]


class TestKnnAccuracy(MetricConformance):
    plugin = "knn-accuracy"
    options = {"k": "3"}
    hand_cases = [(RANKED, [1, 0])]


class TestRelevanceRank(MetricConformance):
    plugin = "relevance-rank"
    # Of the two most important pixels one lies in the mask, then none: .9, and .2 at the first of equals.
    hand_cases = [(EXPLAINED, [1 / 2, 0, NAN])]


class TestPointingGame(MetricConformance):
    plugin = "pointing-game"
    hand_cases = [(EXPLAINED, [1, 0, NAN])]


class TestTopKIntersection(MetricConformance):
    plugin = "top-k-intersection"
    options = {"k": "4"}
    # .9, .8, .4, .3; then .9, .2, .2, .2.
    hand_cases = [(EXPLAINED, [1 / 4, 0, NAN])]


class TestAttributionLocalisation(MetricConformance):
    plugin = "attribution-localisation"
    options = {"offset": "none"}
    hand_cases = [
        (evidence(maps=[[[0.5, 0.25], [0.25, 1.0]]], masks=[[[True, False], [False, True]]]), [1.5 / 2])
    ]
