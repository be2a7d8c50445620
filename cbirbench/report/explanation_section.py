"""The section of ``report.md`` on explanations: how far maps can be trusted, and where they look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cbirbench.report.explanations import RELEVANCE_RANK, Attention, Explained, Explanations
from cbirbench.report.footnotes import control_title
from cbirbench.report.markup import inline, table
from cbirbench.report.scoreboard import DASH, Row, Scoreboard, correlation, value_text


def explanation_section(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    """The section's lines of Markdown, its title left out; none where the run explained nothing."""
    lines: list[str] = []
    if board.explanations is not None:
        lines += [*_how_made(summary), *_maps(board, board.explanations), "", *_how_to_read(board)]
        attention = _attention(board)
        if attention:
            lines += ["", "### Where the attention goes", "", *attention]
    figures = _figures(summary, board)
    if figures:
        lines += [*([""] if lines else []), "### Explained retrievals", "", *figures]
    return lines


def _how_made(summary: Mapping[str, Any]) -> list[str]:
    options = summary.get("relax")
    if not isinstance(options, Mapping) or not options:
        return []
    listed = ", ".join(f"{key} {value_text(value)}" for key, value in options.items() if value is not None)
    return [f"Importance maps are made by RELAX: {inline(listed)}.", ""]


def _maps(board: Scoreboard, maps: Explanations) -> list[str]:
    """A row an extractor, then the controls; columns of relevance rank only where it was computed."""
    ranked = RELEVANCE_RANK in board.metrics
    header = ["extractor", *(["RR, %", "chance, %", "RR/chance"] if ranked else [])]
    header += ["reliability, mean", "lowest", "masks, mean (lowest–highest)", "maps", "undefined"]
    rows = []
    for row in board.rows:
        item = board.explained(row)
        mean = row.scores[RELEVANCE_RANK].mean if ranked else math.nan
        cells = [inline(row.name)]
        if ranked:
            chance = _percent(maps.chance_of(row.extractor))
            cells += [_percent(mean), chance, board.over_chance(mean, row.extractor)]
        cells += _trust(item) if item else [DASH] * 5
        rows.append(cells)
    for name, means in board.controls.items():
        if RELEVANCE_RANK in means:
            mean = means[RELEVANCE_RANK]
            chance = _percent(maps.chance)
            cells = [f"*{inline(control_title(name))}*", _percent(mean), chance, board.over_chance(mean)]
            rows.append([*cells, *[""] * 5])
    return table(header, rows)


def _trust(item: Explained) -> list[str]:
    masks = DASH
    if not math.isnan(item.masks):
        masks = f"{item.masks:.0f} ({item.fewest_masks:.0f}–{item.most_masks:.0f})"
    return [
        correlation(item.reliability),
        correlation(item.lowest_reliability),
        masks,
        str(item.maps),
        str(item.undefined),
    ]


def _how_to_read(board: Scoreboard) -> list[str]:
    lines = [
        "A map says which parts of its slice bear the embedding, compared with the other parts of that same "
        "slice: its colours cannot be compared between slices or extractors. Its reliability is the rank "
        "correlation to expect with a map from as many other masks; a low one means that the map shows the "
        "masks that were drawn more than the extractor."
    ]
    if RELEVANCE_RANK in board.metrics:
        lines[0] += (
            " Chance is the target organ's mean share of the explained slices, which a map of random numbers "
            "scores in RR. An organ that lies near the centre is found by any map that favours the centre, "
            "so an RR says something of the extractor only where it is above that control as well."
        )
    return lines


def _attention(board: Scoreboard) -> list[str]:
    """A row a tissue and extractor, so that extractors stand under each other; the target organ is bold."""
    found: dict[str, list[tuple[Row, Attention]]] = {}
    for row in board.rows:
        item = board.explained(row)
        for part in item.attention if item else ():
            found.setdefault(part.tissue, []).append((row, part))
    if not found:
        return []
    several = len({row.extractor for parts in found.values() for row, _ in parts}) > 1
    # Sorting is stable: the target first, then as the summary has them.
    tissues = sorted(found, key=lambda tissue: not any(part.target for _, part in found[tissue]))
    rows = []
    for tissue in tissues:
        for place, (row, part) in enumerate(found[tissue]):
            name = f"**{inline(tissue)}** (target)" if part.target else inline(tissue)
            cells = ["" if place else name, *([inline(row.name)] if several else []), _percent(part.area)]
            for share in (part.importance, part.top_tenth):
                cells += [_percent(share), _times(part.times_area(share))]
            rows.append(cells)
    header = ["tissue", *(["extractor"] if several else [])]
    header += ["area, %", "importance, %", "over area", "top tenth, %", "over area"]
    return [
        *table(header, rows),
        "",
        "Means over maps: the share of the slice that a tissue covers; the share of the map's importance "
        "that lies on it, counted from the map's lowest value; its share of the map's most important tenth "
        "of pixels; and both as multiples of its area. A map of random numbers gives every tissue its area, "
        "1.0×; more than that says that the embedding rests on the tissue, whether or not it is the target.",
    ]


def _figures(summary: Mapping[str, Any], board: Scoreboard) -> list[str]:
    """The drawn retrievals, each with its score and why it was chosen."""
    names = {row.extractor: row.name for row in board.rows}
    runs = {row.extractor: row.runs for row in board.rows}
    blocks = []
    for item in summary.get("figures") or ():
        extractor = str(item["extractor"])
        which = names.get(extractor, extractor)
        if runs.get(extractor, 1) > 1:
            which += f", run {item['run']}"
        value = item.get("map")
        reached = DASH if value is None or math.isnan(value) else f"{100 * value:.1f} %"
        chosen = f"{item['why']}, " if item.get("why") else ""
        score = f"MAP@{item['shown']}" if item.get("shown") else "MAP"
        text = inline(f"{which}, query {item['query_id']} ({chosen}{score} {reached})")
        blocks.append([f"![{text}]({quote(str(item['file']))})", "", text])
    if not blocks:
        return []
    shown = (
        "The query and its nearest slices with their maps beneath. Best, median and worst are chosen by the "
        "MAP over the slices shown, not by the look of the maps."
    )
    return [shown, *(line for block in blocks for line in ["", *block])]


def _percent(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:.1f}"


def _times(ratio: float) -> str:
    return DASH if math.isnan(ratio) else f"{ratio:.1f}×"
