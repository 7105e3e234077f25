import pytest

from nets import digits_net
from notbugs.training import Adversary


@pytest.fixture(scope="session")
def plain_model():
    return digits_net()


@pytest.fixture(scope="session")
def robust_model():
    return digits_net(Adversary("linf:0.1", steps=3, eps_warmup=0.5))
