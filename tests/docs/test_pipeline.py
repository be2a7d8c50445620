from __future__ import annotations

import xml.etree.ElementTree as ET

import pipeline


def test_the_picture_is_the_one_that_the_script_draws() -> None:
    assert pipeline.FILE.read_text("utf-8") == pipeline.drawing(), "run python docs/site/pipeline.py"


def test_the_picture_is_xml_and_names_every_kind_of_plugin() -> None:
    drawn = ET.fromstring(pipeline.drawing())
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]

    assert {"Benchmark", "Extractor", "Augmentation", "Metric"} <= set(words)


def test_boxes_lie_within_the_picture() -> None:
    for box in pipeline.BOXES:
        assert 0 <= box.x < box.x + box.width <= pipeline.WIDTH
        assert 0 <= box.y < box.y + box.height <= pipeline.HEIGHT
