"""Batch norms in eval mode, which are affine, folded into the convolutions before them."""

import warnings

from torch import nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

Folds = dict[str, str]
"""Name of a convolution -> name of the batch norm that it holds."""


def folded(body: nn.Module) -> tuple[nn.Module, Folds]:
    """A body in eval mode without the norms that can be folded, and which those were.

    `body` is used up: pass a copy. Where it cannot be traced, or has no batch norm, it comes
    back as it is, and nothing was folded.
    """
    if not any(isinstance(m, nn.BatchNorm2d) for m in body.modules()):
        return body, {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = symbolic_trace(body)
            return traced, _fold(traced)
    except Exception:  # whatever a foreign forward does under tracing: leave it unfolded
        return body, {}


def _fold(traced: GraphModule) -> Folds:
    modules, folds = dict(traced.named_modules()), Folds()
    calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if not (isinstance(before, Node) and node.op == before.op == "call_module"):
            continue
        norm, conv = modules[str(node.target)], modules[str(before.target)]
        alone = len(before.users) == 1 and calls.count(str(before.target)) == 1
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and alone:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            folds[str(before.target)] = str(node.target)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return folds
