"""What is printed of a result: the numbers a person wants, no tensors."""

from dataclasses import replace

import pytest
import torch

from notbugs.attacks import AttackResult
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import Verdict
from notbugs.models import build
from notbugs.training import Trained


def mask(*rows) -> torch.Tensor:
    return torch.tensor([row in rows for row in range(8)])


VERDICT = Verdict(
    threat=Threat.parse("linf:8/255"),
    right=~mask(0),
    robust=mask(4, 5, 6, 7),
    broken_by=torch.tensor([-1, 0, 0, 0, -1, -1, -1, -1]),
    attacks=(),
    seconds=1.0,
    forwards=100,
    zero_gradients=0.0,
    within_rounding=mask(),
    non_finite=mask(),
)
RESULT = AttackResult(
    x_adv=torch.zeros(8, 1, 2, 2),
    success=mask(0, 1, 2, 3),
    within_rounding=mask(),
    non_finite=mask(),
    already_wrong=mask(0),
    distance=torch.tensor([0, 0.1, 0.2, 0.3, 1, 1, 1, 1]),
    loss=torch.zeros(8),
    queries=1.0,
    zero_grads=torch.zeros(8, dtype=torch.int64),
    steps=torch.ones(8, dtype=torch.int64),
    gave_up=mask(),
    forwards=1,
    backwards=1,
)
DATA = ImageData(
    torch.zeros(8, 3, 4, 5, dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"), "toy",
    {"recipe": "test"}, {"success": mask(1)},
)  # fmt: skip
HISTORY = [
    {"epoch": 1.0, "loss": 2.0, "lr": 0.1, "val_clean": 40.0, "val_robust": 12.5},
    {"epoch": 2.0, "loss": 0.123456, "lr": 0.1, "val_clean": 50.0, "val_robust": 25.0},
]
TRAINED = Trained(build("linear", shape=(1, 2, 2), classes=2, seed=0), HISTORY, None, 3.21)
SHOWN = {
    "verdict": (
        VERDICT,
        "Verdict(n=8, linf:8/255, clean accuracy 87.50 %, robust accuracy 50.00 %,\n"
        "        95 % interval 21.52 to 78.48 %)",
    ),
    "upper bound": (
        replace(VERDICT, zero_gradients=100.0),
        "Verdict(n=8, linf:8/255, clean accuracy 87.50 %, robust accuracy at most 50.00 %,\n"
        "        95 % interval 21.52 to 78.48 %; an upper bound, for a masking check fires)",
    ),
    "result": (
        RESULT,
        "AttackResult(n=8, attack success rate 50.00 %, robust accuracy 50.00 %,\n"
        "             mean distance 0.2 over the 3 images that were right and are broken)",
    ),
    "nothing fell": (
        replace(RESULT, success=mask(), already_wrong=mask()),
        "AttackResult(n=8, attack success rate 0.00 %, robust accuracy 100.00 %)",
    ),
    "no gradients": (
        replace(
            RESULT,
            success=mask(),
            already_wrong=mask(),
            zero_grads=4 + 0 * RESULT.zero_grads,
            steps=4 + 0 * RESULT.steps,
        ),
        "AttackResult(n=8, attack success rate 0.00 %, robust accuracy 100.00 %,\n"
        "             no gradient on 8 unbroken images: it says nothing of them)",
    ),
    "data": (DATA, "ImageData('toy', n=8, 3x4x5 uint8, 2 classes, columns: success)"),
    "plain data": (
        replace(DATA, images=torch.zeros(8, 1, 2, 2), columns={}),
        "ImageData('toy', n=8, 1x2x2 float32, 2 classes)",
    ),
    "trained": (
        TRAINED,
        "Trained(2 epochs in 3.2 s, loss 0.1235, held-out clean accuracy 50.00 %, "
        "robust accuracy 25.00 %)",
    ),
    "stopped": (
        replace(TRAINED, history=HISTORY[:1], best_epoch=1, stopped="Stopped early: ..."),
        "Trained(1 epoch in 3.2 s, loss 2, held-out clean accuracy 40.00 %, "
        "robust accuracy 12.50 %, weights of epoch 1, stopped early)",
    ),
    "no epochs": (replace(TRAINED, history=[]), "Trained(0 epochs in 3.2 s)"),
}


@pytest.mark.parametrize(("shown", "text"), SHOWN.values(), ids=SHOWN)
def test_a_result_is_printed_by_its_numbers(shown, text) -> None:
    assert repr(shown) == str(shown) == text
    assert "tensor" not in text
    assert text.count("\n") <= 1
