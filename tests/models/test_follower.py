"""Followers: copies without batch norms that keep up with a model while it learns."""

import torch
from torch.nn import functional as F

from normed import IMAGES, Branching, Noisy, net
from notbugs.models import Follower, frozen


def said(model, x=IMAGES):
    with frozen(model), torch.no_grad():
        return model(x)


def learnt(model, steps=1):
    """Some steps of SGD in train mode, so that weights and running statistics move."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(IMAGES), torch.arange(len(IMAGES)) % 4).backward()
        optimiser.step()


def test_it_says_what_the_model_says_in_eval_mode_and_keeps_up_with_it():
    model = net()
    follower = Follower.of(model, "float32", IMAGES[:8])
    assert follower is not None
    before = said(model)
    torch.testing.assert_close(follower(IMAGES), before, atol=1e-4, rtol=1e-4)
    learnt(model, steps=3)
    assert not torch.allclose(said(model), before, atol=0.1)
    torch.testing.assert_close(follower(IMAGES), before, atol=1e-4, rtol=1e-4)  # not told yet
    follower.follow()
    torch.testing.assert_close(follower(IMAGES), said(model), atol=1e-4, rtol=1e-4)


def test_its_gradients_are_the_models():
    model = net()
    follower = Follower.of(model, "float32", IMAGES[:8])
    assert follower is not None
    grads = []
    with frozen(model):
        for logits in (model, follower):
            x = IMAGES.clone().requires_grad_()
            grads.append(torch.autograd.grad(logits(x).square().sum(), x)[0])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-4, rtol=1e-3)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_shared_convolution_is_followed_unfolded_and_the_others_folded():
    model = net(shared=True)
    follower = Follower.of(model, "float32", IMAGES[:8])
    assert follower is not None
    assert list(follower.folds.values()) == ["1"]
    learnt(model)
    follower.follow()
    torch.testing.assert_close(follower(IMAGES), said(model), atol=1e-4, rtol=1e-4)


def test_in_bf16_it_is_near_and_float32_comes_out():
    model = net()
    follower = Follower.of(model, "bf16", IMAGES[:8])
    assert follower is not None
    learnt(model)
    follower.follow()
    logits, wanted = follower(IMAGES), said(model)
    assert logits.dtype == torch.float32
    assert 0 < float((logits - wanted).abs().max()) < 0.05 * float(wanted.std())


def test_none_for_models_that_it_would_not_serve():
    assert Follower.of(net(Branching()), "float32", IMAGES[:8]) is None  # cannot be traced
    assert Follower.of(net(Noisy()), "float32", IMAGES[:8]) is None  # random in itself
    plain = net()
    plain.body[1], plain.body[3].norm = torch.nn.Identity(), torch.nn.Identity()
    assert Follower.of(plain, "float32", IMAGES[:8]) is None  # nothing to fold


def test_none_for_a_subclass_with_a_forward_of_its_own():
    model = net()

    class Twice(type(model)):
        def forward(self, x):
            return 2 * super().forward(x)

    model.__class__ = Twice
    assert Follower.of(model, "float32", IMAGES[:8]) is None
