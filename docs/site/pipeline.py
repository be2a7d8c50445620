"""Draws the pipeline: `python docs/site/pipeline.py` writes docs/images/pipeline.svg."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FILE = Path(__file__).parents[1] / "images" / "pipeline.svg"
WIDTH, HEIGHT = 720, 660
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:15px;fill:#1d2433;text-anchor:middle}"
    ".small{font-size:13px;fill:#4a5468}"
    ".label{font-size:13px;fill:#4a5468;text-anchor:start}"
    ".title{font-weight:600}"
    ".core{fill:#f1f3f7;stroke:#8a93a6}"
    ".plugin{fill:#e3ecff;stroke:#3b62c4}"
    ".frame{fill:none;stroke:#3b62c4;stroke-dasharray:5 4}"
    ".arrow{fill:none;stroke:#4a5468;stroke-width:1.5;marker-end:url(#tip)}"
)


@dataclass(frozen=True)
class Box:
    """A station of the pipeline, its upper left corner at x, y."""

    x: int
    y: int
    width: int
    title: str
    words: str
    plugin: bool = False
    height: int = 58

    def draw(self) -> str:
        """The box and its two lines of text."""
        middle = self.x + self.width // 2
        return (
            f'<rect class="{"plugin" if self.plugin else "core"}" x="{self.x}" y="{self.y}" '
            f'width="{self.width}" height="{self.height}" rx="7"/>'
            f'<text class="title" x="{middle}" y="{self.y + 25}">{escape(self.title)}</text>'
            f'<text class="small" x="{middle}" y="{self.y + 45}">{escape(self.words)}</text>'
        )


BOXES = (
    Box(250, 20, 220, "Benchmark", "scans, labels, masks, split", plugin=True),
    Box(270, 150, 180, "prepare", "window, scale, resize", plugin=True),
    Box(270, 260, 180, "embed", "images to vectors", plugin=True),
    Box(20, 150, 180, "Augmentation", "for those that learn", plugin=True),
    Box(520, 205, 180, "RELAX", "masks images, weighs", False),
    Box(250, 376, 220, "Ranking", "exact nearest neighbours"),
    Box(250, 474, 220, "Metric", "one value a query", plugin=True),
    Box(250, 572, 220, "Report", "statistics, tables, figures"),
)
ARROWS = (
    ("M360 78V150", 370, 100, "slices in Hounsfield units"),
    ("M360 208V260", 290, 239, "images"),
    ("M360 318V376", 370, 360, "embeddings"),
    ("M360 434V474", 370, 458, "neighbours"),
    ("M360 532V572", 370, 556, "scores"),
    ("M110 208V289H270", 120, 283, "two views"),
    ("M250 60H110V150", 120, 100, "slices"),
    ("M450 179H570V205", 494, 172, "images"),
    ("M520 250H480V275H450", 0, 0, ""),
    ("M450 300H560V263", 492, 318, "embeddings"),
    ("M640 263V503H470", 520, 496, "importance maps"),
)


def drawing() -> str:
    """The picture as SVG, readable on light and dark pages."""
    arrows = "".join(
        f'<path class="arrow" d="{path}"/>'
        + (f'<text class="label" x="{x}" y="{y}">{escape(words)}</text>' if words else "")
        for path, x, y, words in ARROWS
    )
    boxes = "".join(box.draw() for box in BOXES)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        "<title>The pipeline of a run: benchmark, extractor, ranking, metric, report</title>"
        f"<style>{STYLE}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#4a5468"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>'
        '<rect class="frame" x="236" y="120" width="248" height="212" rx="10"/>'
        '<text class="label" x="244" y="140">Extractor</text>'
        f"{arrows}{boxes}"
        '<rect class="plugin" x="20" y="590" width="18" height="14" rx="3"/>'
        '<text class="label" x="46" y="602">a plugin</text>'
        '<rect class="core" x="20" y="612" width="18" height="14" rx="3"/>'
        '<text class="label" x="46" y="624">the core</text>'
        "</svg>\n"
    )


if __name__ == "__main__":
    FILE.write_text(drawing(), "utf-8")
