"""Every attack and every entry, whatever the precision and the mode it is called in.

What comes out is what the plain call gives in the model's precision, to the last bit, or the
call is refused by a message that names the cause.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields, is_dataclass
from itertools import product

import pytest
import torch
from torch import nn

from entries import catalogue
from entries.catalogue import CLASSES, ON_DATA, ON_IMAGES, ON_MODEL, WIDTH
from notbugs import analysis, attacks, features, judge, perception, representations, training
from notbugs.data import ImageData
from notbugs.models import build, wrap
from notbugs.models.prepared import PREPARED

FLOAT32, HALF, BF16, DOUBLE = torch.float32, torch.float16, torch.bfloat16, torch.float64
ENTRIES = {**ON_IMAGES, **ON_DATA}
MODES = {
    "train": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", BF16),
}
REFUSED = {
    "half model": r"`(\w+)` must compute in float32 or float64; got torch.bfloat16.*\1.float\(\)",
    "finer": r"`\w+` must be no finer than the model's torch.float32; got torch.float64.*Use ",
    "not data": r"`images` must be uint8 \(0..255\) or float32.*use .float\(\)",
}


def images():
    """Images of four blocks [24, 1, 4, 4], whose pixels half precision holds exactly."""
    x = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return (x * 64).round() / 64


def tiny(x):
    """A small net in train mode, which names all classes; its dropout shows the mode."""
    keys = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(16, WIDTH), nn.Tanh(), nn.Dropout(0.5), nn.Linear(WIDTH, CLASSES)
    )
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=keys))
        net[4].bias -= net.eval()(x).mean(dim=0)
    return wrap(net, shape=(1, 4, 4), classes=CLASSES, embedding="2").train()


@pytest.fixture(scope="module")
def models_and_images():
    """({dtype: model}, images, labels: all right but the first)."""
    x = images()
    model = tiny(x)
    with torch.no_grad():
        y = deepcopy(model).eval().logits(x).argmax(dim=1)
    y[0] = (y[0] + 1) % CLASSES
    return {dtype: deepcopy(model).to(dtype) for dtype in (FLOAT32, DOUBLE, BF16)}, x, y


def numbers(found):
    """All that a result holds but the time it took, in a list."""
    if isinstance(found, ImageData):
        return numbers([found.images, found.labels, found.columns])
    if is_dataclass(found):
        return [
            part
            for field in fields(found)
            if field.name not in ("seconds", "attacks")
            for part in numbers(getattr(found, field.name))
        ]
    if isinstance(found, Mapping):
        return numbers(list(found.values()))
    if isinstance(found, Sequence) and not isinstance(found, str):
        return [part for one in found for part in numbers(one)]
    return [found]


def agree(found, wanted):
    """Whether two results are the same to the last bit, in the same precision."""
    found, wanted = numbers(found), numbers(wanted)
    return len(found) == len(wanted) and all(
        a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
        if isinstance(a, torch.Tensor)
        else a == b or a != a
        for a, b in zip(found, wanted, strict=True)
    )


def refusal(name, model, x, mode):
    """The message that these precisions are to meet, if any."""
    if name in ON_DATA and name not in ON_MODEL and x != FLOAT32:
        return REFUSED["not data"]
    if model == BF16:
        return REFUSED["half model"]
    if name in ON_IMAGES and (model, x) == (FLOAT32, DOUBLE):
        return REFUSED["finer"]
    if name == "train" and mode == "inference":  # it is of a copy, made in that mode
        return r"inference_mode\(\)"
    return None


def outcome(name, model, x, y, mode):
    """(what the entry gives in that mode, its error's text)."""
    with MODES[mode]():
        try:
            return ENTRIES[name](model, x.clone(), y.clone()), ""
        except (ValueError, TypeError) as error:
            return None, str(error)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_right_or_says_why_not(name, models_and_images) -> None:
    models, x, y = models_and_images
    plain = {}
    for dtype in (FLOAT32, DOUBLE):
        high = x if name in ON_DATA else x.to(dtype)
        plain[dtype] = ENTRIES[name](deepcopy(models[dtype]).eval(), high, y)
    odd = {}
    first = list(ENTRIES).index(name)  # each entry meets the modes in another order
    for i, (of_model, of_x) in enumerate(product(models, (FLOAT32, HALF, BF16, DOUBLE))):
        mode = list(MODES)[(first + i + i // 4) % len(MODES)]
        found, said = outcome(name, models[of_model], x.to(of_x), y, mode)
        wanted = refusal(name, of_model, of_x, mode)
        held = re.search(wanted, said) if wanted else not said and agree(found, plain[of_model])
        if not held:
            odd[of_model, of_x, mode] = said or "another result"
    assert odd == {}
    assert all(m.training for model in models.values() for m in model.modules())


@pytest.mark.parametrize("name", ENTRIES)
def test_a_model_made_in_inference_mode_is_refused(name, models_and_images) -> None:
    models, x, y = models_and_images
    with torch.inference_mode():
        model = deepcopy(models[FLOAT32])
        with pytest.raises(ValueError, match=r"'body.*inference_mode\(\).*deepcopy"):
            ENTRIES[name](model, x.clone(), y.clone())
    if name == "train":  # of a copy, which is an ordinary model outside
        return
    with pytest.raises(ValueError, match=r"'body.*inference_mode\(\).*deepcopy"):
        ENTRIES[name](model, x, y)


def near(a, b):
    """Whether two parts of results are the same up to rounding."""
    if isinstance(b, torch.Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        return same and torch.allclose(
            a.cpu().double(), b.double(), atol=1e-6, rtol=1e-6, equal_nan=True
        )
    if isinstance(b, float):
        return a == pytest.approx(b, rel=1e-6, abs=1e-6, nan_ok=True)
    return a == b


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ENTRIES)
def test_a_gpu_gives_what_the_processor_gives(name, models_and_images) -> None:
    models, x, y = models_and_images
    model = deepcopy(models[DOUBLE]).eval()
    model.body[3].p = 0.0  # each device draws its own
    x = x if name in ON_DATA else x.double()
    wanted = numbers(ENTRIES[name](model, x, y))
    there = (x, y) if name in ON_DATA else (x.cuda(), y.cuda())
    found = numbers(ENTRIES[name](model.cuda(), *there))
    pairs = list(zip(found, wanted, strict=True))
    if name.startswith("perceptual"):  # their path follows rounding: what succeeds is compared
        pairs = [pair for pair in pairs if getattr(pair[1], "dtype", None) == torch.bool]
    assert pairs or not wanted
    assert [(a, b) for a, b in pairs if not near(a, b)] == []


@pytest.mark.parametrize("name", [name for name in ON_DATA if name not in ON_MODEL])
def test_a_pair_is_data_and_a_number_is_not(
    name, models_and_images, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, x, y = models_and_images
    wanted = ON_DATA[name](deepcopy(models[FLOAT32]), x, y)
    monkeypatch.setattr(catalogue, "data", lambda x, y: (x, y))
    assert agree(ON_DATA[name](deepcopy(models[FLOAT32]), x, y), wanted)
    monkeypatch.setattr(catalogue, "data", lambda x, y: 3)
    with pytest.raises(TypeError, match=r"`\w+` must be images and labels; got int\. Pass \("):
        ON_DATA[name](models[FLOAT32], x, y)


def test_a_threat_may_be_written(models_and_images) -> None:
    models, x, y = models_and_images
    data, model = catalogue.data(x, y), models[FLOAT32]
    for call in (judge.diagnose, judge.evaluate):
        more = {"attacks": [catalogue.PGD]} if call is judge.evaluate else {"count": 3}
        wanted = call(model, data, catalogue.LINF, **more)
        assert agree(call(model, data, "linf:0.1", **more), wanted)
    with pytest.raises(TypeError, match=r"`threat` must be a Threat; got float\. Make one"):
        judge.evaluate(model, data, 0.1)


def public_functions():
    """The public functions with a model and images, or data, among their arguments."""
    for room in (analysis, attacks, features, judge, perception, representations, training):
        for name in room.__all__:
            found = getattr(room, name)
            if not inspect.isfunction(found):
                continue
            asked = set(inspect.signature(found).parameters)
            if asked & {"model", "teacher", "encoder", "embed"}:
                yield found


# They look at a model's layers or weights, or hand over to one that is here.
ELSEWHERE = {"layer_of", "first_images", "with_temperature", "distil", "identity", "check_fits"}


def test_every_public_function_of_a_model_passes_through_here() -> None:
    for function in public_functions():
        assert hasattr(function, PREPARED) == (function.__name__ not in ELSEWHERE), function
        known = function.__name__ in ENTRIES or function.__name__ in (
            "lpips",
            "pretrain",
            *ELSEWHERE,
        )
        assert known, f"{function.__name__} is to join the catalogue"


MEASURES = {
    "ssim": perception.ssim,
    "ms_ssim": lambda x, y: perception.ms_ssim(x, y, scales=2),
    "colours": perception.colour_difference,
    "lpips": lambda x, y: perception.lpips(build("cnn", shape=(3, 24, 24), classes=2, seed=0))(
        x, y
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_distance_is_the_same_under_autocast(name) -> None:
    x, y = torch.rand(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    wanted = MEASURES[name](x, y)
    with torch.autocast("cpu", BF16):
        assert torch.equal(MEASURES[name](x, y), wanted)
