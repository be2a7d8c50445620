"""Batch norms folded into the convolutions before them: the same function in fewer passes over memory."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from timm.layers import BatchNormAct2d, Conv2dSame, get_notrace_functions, get_notrace_modules
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
"""Taken by exact type: a subclass may work on its weights at each pass, as weight standardisation does."""

BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exact types too. timm's second holds the dropout and the activation that follow."""


@dataclass(frozen=True)
class Folded:
    """A network with batch norms folded away.

    Attributes:
        network: A copy in evaluation mode that shares nothing with the network it was made from.
        count: How many batch norms were folded.
    """

    network: nn.Module
    count: int


def fold_batch_norms(network: nn.Module) -> Folded:
    """Copy a network for inference, each batch norm that alone takes a convolution's output folded into it.

    Which those are is read off a symbolic trace; the copy itself runs the network's own code. A network that
    cannot be traced, or has no such pair, is copied as it is: the count is 0, and it computes the same.

    Args:
        network: Any network of timm. It is left as it was, its mode included.

    Returns:
        The copy, and how many batch norms it does without.
    """
    twin = copy.deepcopy(network).requires_grad_(False).train().eval()  # training drops attention caches
    names = list(twin.named_modules(remove_duplicate=False))
    pairs = list(_pairs(copy.deepcopy(twin)))  # a trace may leave its stand-ins in what it went through
    for convolution_name, norm_name in pairs:
        convolution: Any = twin.get_submodule(convolution_name)
        norm: Any = twin.get_submodule(norm_name)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        rest = nn.Sequential(norm.drop, norm.act) if type(norm) is BatchNormAct2d else nn.Identity()
        for name in (name for name, module in names if module is norm):  # several where it is held twice
            twin.set_submodule(name, rest)
    twin.eval()
    return Folded(twin, len(pairs))


class _Tracer(fx.Tracer):
    """Follows a network down to its convolutions and batch norms, and to what timm says not to enter."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, *get_notrace_modules())):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of each convolution and of the batch norm that alone takes its output."""
    if not any(type(module) in BATCH_NORMS for module in network.modules()):
        return
    try:
        graph = _Tracer().trace(network)
    except Exception:  # a trace runs the network's own code on stand-ins, which may fail in any way
        return
    # A layer called twice, or whose weights are read by themselves, serves more than one batch norm.
    calls = Counter(
        node.target if node.op == "call_module" else node.target.rpartition(".")[0]
        for node in graph.nodes
        if node.op in {"call_module", "get_attr"}
    )
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = (network.get_submodule(str(n.target)) for n in (before, node))
        if type(convolution) not in CONVOLUTIONS or type(norm) not in BATCH_NORMS:
            continue
        if norm.running_mean is not None and calls[before.target] == calls[node.target] == 1:
            yield str(before.target), str(node.target)
