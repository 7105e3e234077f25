"""Folds batch norms in eval mode, which are affine, into the convolutions before them."""

import warnings
from collections.abc import Mapping

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

Folds = dict[str, str]
"""Name of a convolution -> name of the batch norm folded into it."""


def folded(body: nn.Module) -> tuple[nn.Module, Folds]:
    """A body in eval mode with its batch norms folded where possible, and which were.

    A norm is folded if it is the only consumer of a convolution's output, and both are torch's
    own layers without hooks, parametrisations or another use of their weights. `body` may be
    changed: pass a copy. A body that cannot be traced, or has no batch norm, is returned as is.
    """
    if not any(isinstance(m, nn.BatchNorm2d) for m in body.modules()):
        return body, {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = symbolic_trace(body)
    except Exception:  # tracing a foreign `forward` may raise anything: leave it unfolded
        return body, {}
    return traced, _fold(traced)


def _fold(traced: GraphModule) -> Folds:
    modules, folds = dict(traced.named_modules()), Folds()
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if not (isinstance(before, Node) and node.op == before.op == "call_module"):
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if not (isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d)):
            continue
        if not (_is_plain(conv) and _is_plain(norm) and norm.running_mean is not None):
            continue
        if len(before.users) > 1 or _uses(traced.graph, conv, norm, modules) > 2:
            continue
        traced.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
        folds[str(before.target)] = str(node.target)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.recompile()
    return folds


def fold_into(target: nn.Module, conv: nn.Module, norm: nn.Module) -> None:
    """Makes the convolution `target` equal to `conv` followed by `norm` in eval mode."""
    assert isinstance(target, nn.Conv2d)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:  # pyright: ignore[reportUnnecessaryComparison]
        scale = scale * norm.weight
    offset = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias: Tensor = offset * scale
    if norm.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        bias = bias + norm.bias
    target.weight.copy_(conv.weight * scale[:, None, None, None])
    assert target.bias is not None
    target.bias.copy_(bias)


def _is_plain(layer: nn.Module) -> bool:
    """Whether the layer has no hooks and no parametrisations."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    return not (hooked or is_parametrized(layer))


def _uses(graph: Graph, conv: nn.Module, norm: nn.Module, modules: Mapping[str, nn.Module]) -> int:
    """How often the graph calls either layer or reads one of their tensors."""
    calls = sum(
        node.op == "call_module" and modules[str(node.target)] in (conv, norm)
        for node in graph.nodes
    )
    read = [str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"]
    return calls + sum(modules.get(owner) in (conv, norm) for owner in read)
