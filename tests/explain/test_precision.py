import pytest
import torch

from cbirbench.explain import precision
from cbirbench.explain.precision import resolved


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 rdpid", "bfloat16"),
        ("flags\t\t: fpu amx_bf16", "bfloat16"),
        ("Features\t: fp asimd bf16 dgh", "bfloat16"),
        ("flags\t\t: fpu avx512f avx512vnni", "float32"),
        ("model name : bf16lite", "float32"),
    ],
)
def test_auto_goes_by_what_the_processor_says(flags, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(precision, "PROCESSOR_FLAGS", tmp_path / "cpuinfo")
    assert resolved("auto", "cpu") == expected


def test_a_system_that_says_nothing_takes_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "PROCESSOR_FLAGS", tmp_path / "nowhere")
    assert resolved("auto", "cpu") == "float32"


@pytest.mark.parametrize("has", [True, False])
def test_auto_on_a_gpu_asks_torch_and_takes_no_emulation(has, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **given: asked.append(given) or has)
    assert resolved("auto", "cuda") == ("bfloat16" if has else "float32")
    assert asked == [{"including_emulation": False}]


@pytest.mark.parametrize("given", ["float32", "bfloat16"])
def test_what_was_asked_for_stays(given):
    assert resolved(given, "cpu") == given
