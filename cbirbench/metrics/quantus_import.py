"""The one place that imports Quantus, and says what to do where it cannot be imported."""

from __future__ import annotations

from typing import Any

from cbirbench.errors import MissingError


def import_quantus(metric: str) -> Any:
    """Import Quantus; it brings in torch and OpenCV, so only once a metric needs it.

    Args:
        metric: The name of the metric that needs it, for the message.

    Raises:
        MissingError: It cannot be imported; on a bare server OpenCV lacks libraries of the system.
    """
    try:
        import quantus
    except (ImportError, OSError) as error:
        raise MissingError(
            f"The metric {metric} needs Quantus, whose import failed: {error}.",
            "If a library such as libGL.so.1 is named, install the system packages that OpenCV needs "
            "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0); otherwise pip install quantus. "
            "Or leave metrics on explanations out with --metrics map,knn-accuracy.",
        ) from error
    return quantus
