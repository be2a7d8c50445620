"""The Medical Segmentation Decathlon's CT tasks besides the liver, declared as data.

Each splits the task's labelled volumes in numeric order with the paper's share of 100 to 31. What is ours to
choose is the target. An organ's tumour counts as the organ, as in the paper's liver: so for the pancreas. A
tumour of the liver is no part of its vessels, so there the vessels alone are the target. Lung and colon have
no masks but of their cancers, which often span fewer slices than are drawn; scans of the vessels have thick
and so few slices: these three take what there is. Windows are those of `cbirbench.windows.ORGAN_WINDOWS`.
"""

from __future__ import annotations

from cbirbench.datasets.msd import TaskBenchmark
from cbirbench.datasets.task_options import Task


class Lung(
    TaskBenchmark,
    task=Task(
        benchmark="lung",
        folder="Task06_Lung",
        organ="lung cancer",
        structures={1: "cancer"},
        train_volumes=48,
        test_volumes=15,
        too_few="take-fewer",
        windows="lung",
    ),
):
    """MSD Task06_Lung: slices with lung cancer and without, from up to 63 labelled volumes."""


class Pancreas(
    TaskBenchmark,
    task=Task(
        benchmark="pancreas",
        folder="Task07_Pancreas",
        organ="pancreas",
        structures={1: "pancreas", 2: "cancer"},
        train_volumes=215,
        test_volumes=66,
        windows="pancreas",
    ),
):
    """MSD Task07_Pancreas: slices with pancreas, cancer included, and without, from up to 281 volumes."""


class HepaticVessel(
    TaskBenchmark,
    task=Task(
        benchmark="hepatic-vessel",
        folder="Task08_HepaticVessel",
        organ="hepatic vessel",
        structures={1: "vessel", 2: "tumour"},
        train_volumes=231,
        test_volumes=72,
        targets=(1,),
        too_few="take-fewer",
        windows="hepatic-vessel",
    ),
):
    """MSD Task08_HepaticVessel: slices with vessels of the liver and without, from up to 303 volumes."""


class Spleen(
    TaskBenchmark,
    task=Task(
        benchmark="spleen",
        folder="Task09_Spleen",
        organ="spleen",
        structures={1: "spleen"},
        train_volumes=31,
        test_volumes=10,
        windows="spleen",
    ),
):
    """MSD Task09_Spleen: slices with spleen and without, from up to 41 labelled volumes."""


class Colon(
    TaskBenchmark,
    task=Task(
        benchmark="colon",
        folder="Task10_Colon",
        organ="colon cancer",
        structures={1: "colon cancer primaries"},
        train_volumes=96,
        test_volumes=30,
        too_few="take-fewer",
        windows="colon",
    ),
):
    """MSD Task10_Colon: slices with colon cancer and without, from up to 126 labelled volumes."""
