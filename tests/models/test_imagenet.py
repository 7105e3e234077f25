"""The nets of ImageNet and the photographs, where their packages are installed."""

import sys
from pathlib import Path

import pytest
import torch

from notbugs.cli import main
from notbugs.core.errors import DataError, NotbugsError
from notbugs.data import load_source
from notbugs.data.sources import photographs
from notbugs.models import imagenet as module
from notbugs.models.imagenet import imagenet
from notbugs.zoo import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "imagenet"))


def test_photographs_are_what_their_labels_say() -> None:
    source = load_source("photographs")
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (420, 420)
    assert not torch.equal(source.train.images, source.test.images)
    some = source.test.select(slice(0, 420, 15))
    before = torch.get_rng_state()
    model = imagenet()
    assert torch.equal(torch.get_rng_state(), before)
    logits = model(some.pixels()).detach()
    right = logits.argmax(dim=1) == some.labels
    assert float(right.float().mean()) > 0.7  # of 1,000 classes
    top = logits.topk(5, dim=1).indices == some.labels[:, None]
    assert float(top.any(dim=1).float().mean()) > 0.85
    again = imagenet()  # from the cache, as safetensors
    torch.testing.assert_close(again(some.pixels()[:2]), logits[:2])
    assert model.embed(some.pixels()[:2]).shape == (2, 1280)


def test_the_command_line_knows_them_and_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = tmp_path / "verdict.json"
    main(["evaluate", "imagenet:efficientnet-lite0", "--threat", "linf:1/255", "--method", "fgsm",
          "--count", "4", "--json", str(verdict)])  # fmt: skip
    assert "4 images" in capsys.readouterr().out
    assert load_model("imagenet:efficientnet-lite0").classes == 1000
    with pytest.raises(SystemExit):
        main(["evaluate", "imagenet:efficientnet", "--threat", "linf:1/255"])
    assert "Did you mean 'efficientnet-lite" in capsys.readouterr().err


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'efficientnet-lite"):
        imagenet("efficientnet-lite")


def test_missing_packages_are_named_with_the_remedy(monkeypatch, tmp_path) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
        with pytest.raises(NotbugsError, match=r"efficientnet_lite_pytorch.* 'notbugs\[imagenet"):
            imagenet()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(module.DIGESTS, "efficientnet-lite0", "0" * 64)
    with pytest.raises(DataError, match="is not the file that was published"):
        imagenet()
    monkeypatch.setattr(photographs, "PLACES", {"skimage": "nowhere"})
    with pytest.raises(DataError, match=r"'chelsea.png' is not there: scikit-image .* pip install"):
        photographs.load_photographs()
