"""Models on a hub, with a folder or a client of the test in the place of the network."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import notbugs as nb
from notbugs.cli import main
from notbugs.core.errors import DataError, NotbugsError, StoreError
from notbugs.zoo.addresses import public_name
from notbugs.zoo.card import CARD
from notbugs.zoo.hub import Address

X = torch.rand(3, 1, 8, 8, generator=torch.manual_seed(0))


COMMIT = "0123456789abcdef"


class Client:
    """A folder whose every revision is one commit, which notes what is asked of it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.asked = nb.zoo.FolderHub(root), list[tuple]()

    def create_repo(self, repo_id, *, exist_ok, private):
        self.asked.append(("create", repo_id, private))
        self.folder.create_repo(repo_id, exist_ok=exist_ok, private=private)

    def upload_folder(self, **options):
        self.folder.upload_folder(**options)

    def repo_info(self, repo_id, *, revision, files_metadata):
        self.asked.append(("info", repo_id, revision))
        stored = self.folder.repo_info(repo_id, revision=None, files_metadata=files_metadata)
        return replace(stored, sha=COMMIT)

    def snapshot_download(self, repo_id, *, revision, allow_patterns, local_files_only):
        self.asked.append(("local" if local_files_only else "get", *allow_patterns, revision))
        return str(self.folder.root / repo_id)


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


def test_what_is_downloaded_is_of_the_commit_that_was_asked_for(
    pushed: Path, tmp_path: Path
) -> None:
    client = Client(tmp_path / "hub")
    assert nb.zoo.fetch("me/mine@v1.0", hub=client).card.name == "mine"
    get = ("get", CARD, "model.safetensors", COMMIT)
    assert client.asked == [("info", "me/mine", "v1.0"), get]
    with pytest.raises(DataError, match=r"'me/other' holds no card\.json"):
        nb.zoo.fetch("me/other", hub=client)


def test_a_command_asks_the_hub_once(
    pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path / "hub")
    monkeypatch.setattr("notbugs.zoo.hub._huggingface", lambda: client)
    json_file = str(tmp_path / "v.json")
    main(["evaluate", "hub:me/mine@once", "--threat", "l2:1", "--method", "fgsm", "--count", "5",
          "--json", json_file])  # fmt: skip
    assert [kind for kind, *_ in client.asked] == ["info", "get"]


def test_without_a_network_an_earlier_download_is_taken(pushed: Path, tmp_path: Path) -> None:
    class Offline(Client):
        def repo_info(self, repo_id, *, revision, files_metadata):
            raise OSError("no network")

    client = Offline(tmp_path / "hub")
    assert nb.zoo.fetch("me/mine@v1.0", hub=client).card.name == "mine"
    assert client.asked == [("local", CARD, "model.safetensors", "v1.0")]
    (pushed / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="is not the file that its card describes"):
        nb.zoo.fetch("me/mine@v1.0", hub=client)


def test_an_answer_of_the_hub_is_no_lack_of_a_network(pushed: Path, tmp_path: Path) -> None:
    class Gone(Client):
        def repo_info(self, repo_id, *, revision, files_metadata):
            error = OSError("404 not found")
            error.response = "404"  # as of huggingface_hub's HfHubHTTPError
            raise error

    client = Gone(tmp_path / "hub")
    with pytest.raises(NotbugsError, match="404 not found"):
        nb.zoo.fetch("me/mine", hub=client)
    assert client.asked == []


def test_a_repository_is_private_unless_it_is_asked_for(mine: nb.zoo.Entry, tmp_path: Path) -> None:
    client = Client(tmp_path / "hub")
    nb.zoo.push(mine, "me/mine", hub=client)
    nb.zoo.push(mine, "me/mine", public=True, hub=client)
    assert client.asked == [("create", "me/mine", True), ("create", "me/mine", False)]


def test_files_of_others_are_not_replaced_by_a_push(mine: nb.zoo.Entry, tmp_path: Path) -> None:
    folder = tmp_path / "me" / "mine"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("of another project")
    with pytest.raises(StoreError, match=r"holds files, and no card\.json"):
        nb.zoo.push(mine, f"file:{folder}")
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    assert (folder / "README.md").read_text() == "of another project"


def test_the_page_that_is_pushed_is_the_cards(mine: nb.zoo.Entry, tmp_path: Path) -> None:
    for page in ("an older page", None):
        if page is None:
            (mine.folder / "card.md").unlink()
        else:
            (mine.folder / "card.md").write_text(page)
        nb.zoo.push(mine, f"file:{tmp_path}/hub/me/mine")
        readme = tmp_path / "hub" / "me" / "mine" / "README.md"
        assert readme.read_text() == nb.zoo.page_of(mine.card)


@pytest.mark.parametrize(
    "metadata",
    [
        {"start": {"weights": "/home/somebody/w.safetensors"}},
        {"command": "notbugs train --start ~/w.safetensors --out model"},
        {"command": "notbugs train '--start=/data/w.safetensors' --out model"},
        {"sparsified_from": {"weights": ["C:\\Users\\me\\w.safetensors"]}},
        {"note": "folder:/mnt/images"},
    ],
)
def test_paths_of_this_machine_are_not_published(metadata, weights, facts, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    nb.save_model(nb.load_model(weights), path, metadata=facts | metadata)
    entry = nb.zoo.add(path, "told", "l2:1")
    target = f"file:{tmp_path}/hub/me/told"
    with pytest.raises(DataError, match=r"'told' name paths of this machine, .*--anyway"):
        nb.zoo.push(entry, target)
    assert not (tmp_path / "hub").exists()
    main(["zoo", "push", "told", "--to", target, "--anyway"])
    assert nb.zoo.fetch(target).card == entry.card


def test_what_is_no_path_is_published(weights, facts, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    told = {"command": "notbugs train --threat linf:8/255 --start hub:a/b@v1 --start w.safetensors",
            "link": "https://arxiv.org/abs/2010.09670, or and/or 1 / 2"}  # fmt: skip
    nb.save_model(nb.load_model(weights), path, metadata=facts | told)
    nb.zoo.push(nb.zoo.add(path, "told", "l2:1"), f"file:{tmp_path}/hub/me/told")
    assert (tmp_path / "hub" / "me" / "told" / CARD).is_file()


def test_names_for_others_hold_no_folders_of_this_machine() -> None:
    names = {
        "/home/me/w.safetensors": "w.safetensors",
        "runs/robust": "robust",
        "zoo:mine": "zoo:mine",
        "hub:me/mine@v1": "hub:me/mine@v1",
        "hub:file:/home/me/mine": "mine",
    }
    assert {name: public_name(name) for name in names} == names


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
        create_repo=fail, upload_folder=fail, repo_info=fail, snapshot_download=fail
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

    for name in ("create_repo", "upload_folder", "repo_info", "snapshot_download"):
        ours = inspect.signature(getattr(nb.zoo.Hub, name)).parameters
        theirs = inspect.signature(getattr(hub.HfApi, name)).parameters
        assert set(ours) <= set(theirs)
    assert {"rfilename", "size"} <= set(inspect.get_annotations(hub.hf_api.RepoSibling))
