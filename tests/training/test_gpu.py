"""Training on a GPU: it learns, compiled and with CUDA graphs as well."""

from dataclasses import replace

import pytest
import torch

from killed import DATA, SHORT, small
from notbugs.models import prepare
from notbugs.training import Adversary, Trades, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
LONGER = replace(SHORT, epochs=20, average=0.9)
CASES = {
    "standard": LONGER,
    "bf16": replace(LONGER, precision="bf16"),
    "pgd": replace(LONGER, adversary=Adversary("linf:0.03", steps=3)),
    "pgd in bf16": replace(LONGER, adversary=Adversary("linf:0.03", steps=3), precision="bf16"),
    "trades": replace(LONGER, adversary=Adversary("linf:0.03", steps=3), objective=Trades(1.0)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [None, "default", "reduce-overhead"])
@pytest.mark.parametrize("recipe", CASES.values(), ids=list(CASES))
def test_it_learns(recipe, mode) -> None:
    model = prepare(small(0, "resnet8", width=8), "cuda")
    done = train(model, DATA, recipe, seed=0, compile_mode=mode)
    assert done.history[-1]["loss"] < 0.5 * done.history[0]["loss"]
    x, y = DATA.pixels().cuda(), DATA.labels.cuda()
    with torch.no_grad():
        assert float((model(x).argmax(dim=1) == y).float().mean()) > 0.8
