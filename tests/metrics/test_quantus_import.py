import subprocess
import sys

import numpy as np
import pytest

from cbirbench.errors import MissingError
from cbirbench.interfaces import Options
from cbirbench.metrics.attribution_localisation import AttributionLocalisation
from cbirbench.metrics.pointing_game import PointingGame
from cbirbench.metrics.quantus_import import import_quantus
from cbirbench.metrics.relevance_rank import RelevanceRank
from cbirbench.metrics.top_k_intersection import TopKIntersection

METRICS = [RelevanceRank, PointingGame, TopKIntersection, AttributionLocalisation]


class Linkerless:
    """Stands where Quantus would be found, and fails as OpenCV does on a bare server."""

    def find_spec(self, name, path=None, target=None):
        if name == "quantus":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")


@pytest.fixture
def no_quantus(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "quantus"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Linkerless(), *sys.meta_path])


def test_quantus_is_given():
    assert import_quantus("any").__name__ == "quantus"


def test_a_missing_system_library_is_named_with_the_packages_that_hold_it(no_quantus):
    with pytest.raises(MissingError, match=r"libGL\.so\.1: cannot open.*libgl1 libglib2\.0-0") as failed:
        import_quantus("relevance-rank")
    assert "The metric relevance-rank needs Quantus" in str(failed.value)
    assert "leave metrics on explanations out with --metrics map,knn-accuracy" in str(failed.value)


@pytest.mark.parametrize("metric_class", METRICS)
def test_each_metric_says_so_when_it_is_made_and_when_it_scores(metric_class, explained, request):
    metric = metric_class(metric_class.options_type())
    request.getfixturevalue("no_quantus")
    with pytest.raises(MissingError, match=f"The metric {metric.name} needs Quantus.*libgl1"):
        metric_class(metric_class.options_type())
    with pytest.raises(MissingError, match=f"The metric {metric.name} needs Quantus.*libgl1"):
        metric.per_query(explained([np.eye(2, dtype=np.float32)], [np.eye(2, dtype=bool)]))


@pytest.mark.parametrize("metric_class", METRICS)
def test_what_the_runner_looks_at(metric_class):
    metric = metric_class(metric_class.options_type())
    assert issubclass(metric_class.options_type, Options)
    assert (metric.depth, metric.needs, metric.options) == (0, "explanations", metric_class.options_type())


def test_quantus_is_imported_only_when_needed():
    modules = ", ".join(sorted({metric_class.__module__ for metric_class in METRICS}))
    heavy = "'quantus' in sys.modules or 'torch' in sys.modules"
    code = f"import sys, {modules}; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
