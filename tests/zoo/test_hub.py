"""Models on a hub, with a folder or a client of the test in the place of the network."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import notbugs as nb
from notbugs.cli import main
from notbugs.core.errors import DataError, NotbugsError
from notbugs.zoo.card import CARD
from notbugs.zoo.hub import Address

X = torch.rand(3, 1, 8, 8, generator=torch.manual_seed(0))


class Client(nb.zoo.FolderHub):
    """A folder with `revision` as a part of its path, which notes what is asked of it."""

    asked: list = []  # noqa: RUF012

    def get_paths_info(self, repo_id, paths, *, revision):
        self.asked.append((repo_id, tuple(paths), revision))
        at = nb.zoo.FolderHub(self.root / (revision or "main"))
        return at.get_paths_info(repo_id, paths, revision=None)

    def snapshot_download(self, repo_id, *, revision, allow_patterns):
        self.asked.append((repo_id, tuple(allow_patterns), revision))
        return str(self.root / (revision or "main") / repo_id)


@pytest.fixture
def pushed(mine: nb.zoo.Entry, tmp_path: Path) -> Path:
    nb.zoo.push(mine, f"file:{tmp_path}/hub/me/mine")
    return tmp_path / "hub" / "me" / "mine"


def test_what_was_pushed_is_loaded(mine: nb.zoo.Entry, pushed: Path) -> None:
    assert {path.name for path in pushed.iterdir()} == {CARD, "README.md", "model.safetensors"}
    assert (pushed / "README.md").read_text() == nb.zoo.page_of(mine.card)
    wanted = nb.load_model("mine")(X)
    for address in (f"hub:file:{pushed}", f"hub:file://{pushed}"):
        assert torch.equal(nb.load_model(address)(X), wanted)


def test_commands_push_and_take_such_addresses(
    mine: nb.zoo.Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"file://{tmp_path}/hub/me/again"
    main(["zoo", "push", "mine", "--to", address])
    assert f"mine: hub:{address}" in capsys.readouterr().out
    main(["evaluate", f"hub:{address}", "--threat", "l2:1", "--method", "fgsm", "--count", "5"])
    assert "Robust accuracy" in capsys.readouterr().out
    main(["zoo", "add", f"hub:{address}", "--name", "fetched", "--threat", "l2:1"])
    assert nb.zoo.find("fetched").card.sha256 == mine.card.sha256


def test_a_revision_is_passed_on(pushed: Path, tmp_path: Path) -> None:
    shutil.copytree(pushed, tmp_path / "fake" / "v1.0" / "me" / "mine")
    client = Client(tmp_path / "fake")
    assert nb.zoo.fetch("me/mine@v1.0", hub=client).card.name == "mine"
    names = (CARD, "model.safetensors")
    assert client.asked == [("me/mine", names, "v1.0"), ("me/mine", names, "v1.0")]
    with pytest.raises(DataError, match=r"'me/mine' holds no card\.json"):
        nb.zoo.fetch("me/mine", hub=client)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mine",
        "a/b/c",
        "../mine",
        "me/..",
        "/etc/passwd",
        "me/mine@",
        "me/mine@../x",
        "me/mine@/x",
        "me/mi ne",
        "me/.hidden",
        "me\\mine/a",
        "me/mine@a..b",
        f"me/{'a' * 96}",
    ],
)
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`address` must be written OWNER/REPO\[@REVISION\]"):
        Address.parse(text)


def test_addresses_are_read() -> None:
    assert Address.parse("some-body/digits.cnn_1@v1/x") == Address("some-body/digits.cnn_1", "v1/x")
    assert Address.parse("a/b") == Address("a/b", None)


def test_only_named_files_of_bounded_size_are_read(
    pushed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pushed / "model.bin").write_bytes(b"a pickle, never read")
    assert nb.zoo.fetch(f"file:{pushed}").card.name == "mine"
    for name, most in ((CARD, 100), ("model.safetensors", 1000)):
        with monkeypatch.context() as patch:
            patch.setitem(nb.zoo.hub.READ, name, most)
            with pytest.raises(DataError, match=rf"{name} .* bytes, more than {most:,}\."):
                nb.zoo.fetch(f"file:{pushed}")


def test_other_weights_than_the_cards_are_refused(pushed: Path) -> None:
    other = nb.build("linear", shape=(1, 8, 8), classes=10, seed=1)
    nb.save_model(other, pushed / "model.safetensors")
    with pytest.raises(DataError, match="is not the file that its card describes"):
        nb.load_model(f"hub:file:{pushed}")
    content = json.loads((pushed / CARD).read_text())
    (pushed / CARD).write_text(json.dumps(content | {"name": "../x"}))
    with pytest.raises(DataError, match="`name` must be up to 100 letters"):
        nb.load_model(f"hub:file:{pushed}")


def test_pickles_are_refused(pushed: Path) -> None:
    torch.save({"w": torch.zeros(1)}, pushed / "model.safetensors")
    content = json.loads((pushed / CARD).read_text())
    digest = nb.zoo.evaluation.sha256_of(pushed / "model.safetensors")
    (pushed / CARD).write_text(json.dumps(content | {"sha256": digest}))
    with pytest.raises(DataError, match="it is a pickle"):
        nb.load_model(f"hub:file:{pushed}")


def test_weights_that_do_not_fit_their_card_are_not_pushed(
    mine: nb.zoo.Entry, tmp_path: Path
) -> None:
    model = nb.build("linear", shape=(1, 8, 8), classes=10, seed=1)
    nb.save_model(model, mine.weights)
    with pytest.raises(DataError, match="is not the file that its card describes"):
        nb.zoo.push(mine, f"file:{tmp_path}/hub/me/mine")
    assert not (tmp_path / "hub").exists()


def test_a_hub_that_fails_is_explained(mine: nb.zoo.Entry) -> None:
    def fail(*given, **options):
        raise OSError("no network")

    client = SimpleNamespace(
        create_repo=fail, upload_folder=fail, get_paths_info=fail, snapshot_download=fail
    )
    with pytest.raises(NotbugsError, match=r"with 'me/mine': no network\. Check the address"):
        nb.zoo.push(mine, "me/mine", hub=client)
    with pytest.raises(NotbugsError, match=r"with 'me/mine': no network\. Check the address"):
        nb.zoo.fetch("me/mine", hub=client)


def test_the_package_of_a_hub_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(NotbugsError, match=r"pip install 'notbugs\[hub\]'"):
        nb.load_model("hub:me/mine")


def test_the_client_of_hugging_face_has_what_is_called() -> None:
    hub = pytest.importorskip("huggingface_hub")
    import inspect

    for name in ("create_repo", "upload_folder", "get_paths_info", "snapshot_download"):
        ours = inspect.signature(getattr(nb.zoo.Hub, name)).parameters
        theirs = inspect.signature(getattr(hub.HfApi, name)).parameters
        assert set(ours) <= set(theirs)
    assert {"path", "size"} <= set(inspect.get_annotations(hub.hf_api.RepoFile))
