"""What keeps the house in order: imports only point down, nothing heavy loads early, nothing is unpickled."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cbirbench

PACKAGE = Path(cbirbench.__file__).parent
ROOT = PACKAGE.parent

# Every module, the command line first. Each may import only modules below it.
ORDER = [
    "cli",
    "commands.run",
    "commands.queries",
    "commands.pictures",
    "commands.data",
    "commands.check",
    "commands.plugins",
    "commands.plugin_check",
    "commands.plugin_new",
    "commands.plugin_pages",
    "commands.cache",
    "commands.speaking",
    "commands.options",
    "scaffold.writing",
    "scaffold.rendering",
    "scaffold.names",
    "console",
    "testing",
    "conformance.inspection",
    "conformance.benchmarks",
    "conformance.benchmark_slices",
    "conformance.benchmark_reading",
    "conformance.metrics",
    "conformance.hand_cases",
    "conformance.metric_chance",
    "conformance.metric_evidence",
    "conformance.augmentations",
    "conformance.augmentation_keys",
    "conformance.augmentation_calls",
    "conformance.extractors",
    "conformance.training",
    "conformance.extractor_keys",
    "conformance.extractor_hu",
    "conformance.extractor_masks",
    "conformance.extractor_calls",
    "conformance.imports",
    "conformance.fresh_process",
    "conformance.lookup",
    "conformance.declarations",
    "conformance.subjects",
    "conformance.verdicts",
    "conformance.option_values",
    "conformance.opened_files",
    "conformance.states",
    "conformance.evidence",
    "conformance.making",
    "runner",
    "leaks",
    "evaluation",
    "cases.cross_exam_pairs",
    "cases.pair_list",
    "cases.cross_examination",
    "cases.study_orders",
    "cases.querying",
    "cases.asking",
    "cases.query_explaining",
    "view_sampling",
    "estimate",
    "curves",
    "explanation_scores",
    "explaining",
    "cases.reopening",
    "embedding",
    "keys",
    "chance",
    "scoring",
    "retrieval_figures",
    "reading",
    "cases.studies",
    "cases.spatial_coherence",
    "environment",
    "paper",
    "report.paper_markdown",
    "report.paper_latex",
    "report.paper_architecture",
    "report.paper_tables",
    "report.paper_notes",
    "report.paper_layout",
    "report.paper_runs",
    "report.reported",
    "report.markdown",
    "report.cohort_sections",
    "report.data_section",
    "report.score_table",
    "report.significance",
    "report.explanation_section",
    "report.markup",
    "report.training",
    "report.terminal",
    "report.cohort_table",
    "report.machine",
    "report.footnotes",
    "report.cautions",
    "report.scoreboard",
    "report.cohorts",
    "report.explanations",
    "checking.cohort_check",
    "checking.cohort_scans",
    "report.cohort_records",
    "figures.cross_examination",
    "figures.explained_retrieval",
    "figures.windows",
    "figures.curves",
    "figures.view_pairs",
    "figures.cohort_grid",
    "figures.look",
    "planning",
    "asked_metrics",
    "contenders",
    "plugin_facts",
    "results",
    "query_sets",
    "plan",
    "statistics",
    "permutation",
    "explain.controls",
    "explain.relax",
    "explain.passes",
    "explain.precision",
    "explain.reliability",
    "explain.estimators",
    "explain.masks",
    "explain.attention",
    "explain.native",
    "metrics.attribution_localisation",
    "metrics.top_k_intersection",
    "metrics.pointing_game",
    "metrics.relevance_rank",
    "metrics.localisation",
    "metrics.quantus_import",
    "metrics.knn_accuracy",
    "metrics.mean_average_precision",
    "leakage",
    "duplicates",
    "ranking",
    "extraction",
    "store",
    "checking.scan_check",
    "checking.scan_doubts",
    "checking.scan_facts",
    "checking.hu_counts",
    "checking.scan_views",
    "datasets.phantom_export",
    "datasets.phantom",
    "datasets.reconstruction",
    "datasets.anatomy_organs",
    "datasets.anatomy_frame",
    "datasets.anatomy",
    "datasets.anatomy_shapes",
    "downloads.inventory",
    "downloads.fetching",
    "downloads.unpacking",
    "downloads.download",
    "downloads.https",
    "datasets.cohort",
    "datasets.folder",
    "datasets.own_scans",
    "datasets.manifest",
    "datasets.slice_labels",
    "datasets.text_tables",
    "datasets.discovery",
    "datasets.folder_contents",
    "datasets.msd_tasks",
    "datasets.msd",
    "datasets.task_options",
    "datasets.scan_options",
    "datasets.scan_names",
    "downloads.archives",
    "datasets.dataset_json",
    "datasets.scan_slices",
    "datasets.sampling",
    "scans.volumes",
    "scans.dicom_segmentation",
    "scans.dicom_series",
    "scans.dicom_slices",
    "scans.dicom_pixels",
    "scans.dicom_files",
    "scans.dicom_headers",
    "scans.itk",
    "scans.nifti",
    "scans.volume",
    "scans.folder_walk",
    "scans.geometry",
    "settings",
    "option_tables",
    "registry",
    "interfaces",
    "options",
    "windows",
    "numeric_order",
    "slices",
    "atomic",
    "doubts",
    "plain_text",
    "errors",
]

HEAVY = {
    "SimpleITK",
    "faiss",
    "highdicom",
    "lightly",
    "matplotlib",
    "nibabel",
    "numpy",
    "pandas",
    "pyarrow",
    "pydicom",
    "pytorch_lightning",
    "quantus",
    "safetensors",
    "scipy",
    "skimage",
    "timm",
    "torch",
    "torchvision",
}

UNPICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "diskcache"}

PLUGINS_MAY_IMPORT = {"interfaces", "windows", "slices", "errors"}


def sources(*folders: str) -> list[Path]:
    """Python files below folders of the repository, but for tests."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return sorted(file for file in files if "tests" not in file.relative_to(ROOT).parts)


def module_of(file: Path) -> str:
    """`cbirbench/report/terminal.py` is `report.terminal`; a package's own file is the package."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import from cbirbench, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "cbirbench":
                    yield node.lineno, alias.name.removeprefix("cbirbench").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            assert node.module is not None
            if node.module.split(".")[0] == "cbirbench":
                base = node.module.removeprefix("cbirbench").removeprefix(".")
                for alias in node.names:
                    below = f"{base}.{alias.name}".removeprefix(".")
                    yield node.lineno, below if below in modules else base


MODULES = {module_of(file): file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"}


def rising(name: str, source: str) -> list[str]:
    """Imports of a module that do not point down."""
    found = []
    for line, target in imported(ast.parse(source), set(MODULES)):
        # The package itself holds the version and imports nothing.
        if target and (target not in ORDER or ORDER.index(target) <= ORDER.index(name)):
            found.append(f"{name}, line {line}, imports {target}")
    return found


def test_every_module_has_its_place() -> None:
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_only_point_down(name: str) -> None:
    assert rising(name, MODULES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from cbirbench.store import Store",
        "import cbirbench.store",
        "from cbirbench import __version__, store",
        "from cbirbench.slices import Slices",
        "from cbirbench.report.nothing import here",
        "def f():\n    from cbirbench.runner import execute",
        "if TYPE_CHECKING:\n    from cbirbench.plan import Plan",
    ],
)
def test_an_import_that_points_up_would_be_found(source: str) -> None:
    assert len(rising("slices", source)) == 1
    assert (
        rising("slices", "from cbirbench import __version__, errors\nfrom cbirbench.errors import DataError")
        == []
    )


def test_packages_own_files_import_nothing() -> None:
    for file in PACKAGE.rglob("__init__.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes), file


def test_plugins_import_only_what_is_made_for_them() -> None:
    for file in sources("plugins"):
        for line, target in imported(ast.parse(file.read_text(encoding="utf-8")), set(MODULES)):
            assert target in PLUGINS_MAY_IMPORT, (
                f"{file.relative_to(ROOT)}, line {line}, imports cbirbench.{target}"
            )


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh Python holds after running code."""
    script = f"import json, sys\n{code}\nprint('LOADED' + json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.partition("LOADED")[2])}


HELP = """
from cbirbench.cli import app
sys.argv = ["cbirbench", {arguments}]
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import cbirbench.cli",
        HELP.format(arguments="'--help'"),
        HELP.format(arguments="'--version'"),
        HELP.format(arguments="'run', '--help'"),
        HELP.format(arguments="'views', '--help'"),
        HELP.format(arguments="'query', '--help'"),
        HELP.format(arguments="'cross-exam', '--help'"),
    ],
    ids=["import", "--help", "--version", "run --help", "views --help", "query --help", "cross-exam --help"],
)
def test_nothing_heavy_is_loaded_for_help(code: str) -> None:
    loaded = loaded_after(code)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_naming_plugins_loads_neither_them_nor_torch() -> None:
    loaded = loaded_after(
        "from cbirbench import registry\n[registry.installed(kind) for kind in registry.GROUPS]"
    )
    assert "cbirbench" in loaded
    assert loaded & HEAVY == set()


def test_something_heavy_would_be_noticed() -> None:
    assert "numpy" in loaded_after("import cbirbench.slices") & HEAVY


def test_no_file_is_named_for_everything_and_nothing() -> None:
    for file in sources("cbirbench", "plugins"):
        for part in file.relative_to(ROOT).with_suffix("").parts:
            assert not re.search(r"util|helper|common|manager|factory|misc", part.lower()), file


def unsafe(tree: ast.AST) -> list[int]:
    """Lines that could run what a file says: unpickling, or loading tensors with it."""
    lines = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if "torch.load" in names:  # by another name it could not be followed
                lines.append(node.lineno)
        if any(name.split(".")[0] in UNPICKLING for name in names):
            lines.append(node.lineno)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if called == "torch.load" and not _is(given.get("weights_only"), True):
                lines.append(node.lineno)
            if "allow_pickle" in given and not _is(given["allow_pickle"], False):
                lines.append(node.lineno)
            if called.rpartition(".")[2] in ("read_pickle", "to_pickle"):
                lines.append(node.lineno)
    return lines


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_is_unpickled() -> None:
    for file in sources("cbirbench", "plugins"):
        assert unsafe(ast.parse(file.read_text(encoding="utf-8"))) == [], file.relative_to(ROOT)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", True),
        ("def f():\n    import pickle as p", True),
        ("from pickle import loads", True),
        ("import joblib.memory", True),
        ("numpy.load(path, allow_pickle=True)", True),
        ("numpy.load(path, allow_pickle=flag)", True),
        ("numpy.load(path, allow_pickle=False)", False),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, map_location='cpu', weights_only=True)", False),
        ("from torch import load", True),
        ("pandas.read_pickle(path)", True),
        ("import json", False),
    ],
)
def test_unpickling_would_be_found(source: str, found: bool) -> None:
    assert bool(unsafe(ast.parse(source))) is found
