"""Random edits of every kind of file that is read again: an error of ours, or the same content.

Run: python benchmarks/fuzz_files.py [EDITS] [SEED]. Prints how the edits ended, by kind of file.
"""

import collections
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from notbugs.core.errors import NotbugsError
from notbugs.data import export_npz, import_npz, load_source
from notbugs.data import files as sets
from notbugs.judge.ledger import Ledger
from notbugs.models import build
from notbugs.models import load as load_model
from notbugs.models import save as save_model
from notbugs.store import Store
from notbugs.training import Recipe, checkpoint, recipe_as_json, recipe_from_json, train

VALUES = (None, True, -1, 0, 10**30, 1e308, "ten", "", [], {}, [1, "a"], {"a": []}, float("nan"))


def _sources(folder: Path) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """A file of each kind, and how it is read."""
    data = load_source("digits").train.select(slice(0, 40))
    model = build("mlp", shape=(1, 8, 8), classes=10, seed=0, options={"width": 4, "depth": 1})
    save_model(model, folder / "w", metadata={"recipe": recipe_as_json(Recipe())})
    sets.save(data, folder / "d.safetensors")
    export_npz(data, folder / "n.npz")
    train(model, data, Recipe(epochs=1, batch_size=20), seed=0, checkpoint_path=folder / "c")
    owner = checkpoint.owner_of(model, data, Recipe(epochs=1, batch_size=20), 0, None)
    ledger = Ledger.opened(folder / "e", lambda: "id", 2, 3)
    ledger.begin([True, False, True])
    store = Store(folder / "s")
    with store.working("kind", "key") as work:
        store.complete(
            "kind", "key", work, config={}, version=1, inputs={}, seconds=1.0, machine={}
        )

    def weights() -> Any:
        net, facts = load_model(folder / "w")
        recipe_from_json(facts["recipe"])
        return [v.tolist() for v in net.state_dict().values()]

    def resumed() -> Any:
        saved = checkpoint.read(folder / "c", owner)
        assert saved is not None
        return {k: v.tolist() for k, v in saved[0].items()}, saved[1]

    def entry() -> Any:
        found = store.find("kind", "key")
        return found if found is None else found.seconds

    return {
        "weights": (folder / "w", weights),
        "set": (folder / "d.safetensors", lambda: sets.load(folder / "d.safetensors").digest),
        "archive": (folder / "n.npz", lambda: import_npz(folder / "n.npz").digest),
        "checkpoint": (folder / "c", resumed),
        "state": (folder / "e", lambda: Ledger.opened(folder / "e", lambda: "id", 2, 3)),
        "entry": (folder / "s" / "kind" / "key" / "meta.json", entry),
    }


def _edited(content: bytes, draw: random.Random) -> bytes:
    """The content with bytes changed, cut, or a value of its JSON replaced."""
    way = draw.choice(("bytes", "cut", "json", "json"))
    if way == "cut":
        return content[: draw.randrange(len(content))]
    text, head = content, b""
    if content[8:9] == b"{":
        size = 8 + int.from_bytes(content[:8], "little")
        head, text = content[:8], content[8:size]
    if way == "json" and text[:1] == b"{":
        changed = json.dumps(_changed(json.loads(text), draw)).encode()
        rest = content[len(head) + len(text) :]
        return (len(changed).to_bytes(8, "little") if head else b"") + changed + rest
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made)


def _changed(value: Any, draw: random.Random) -> Any:
    """The value with one of its parts replaced, removed or added; JSON within text is entered."""
    if isinstance(value, str) and value[:1] == "{":
        return json.dumps(_changed(json.loads(value), draw))
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        way = draw.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.15:
            return value | {f"{key}s": 1}
        return value | {key: _changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


def fuzz(edits: int, seed: int) -> dict[str, collections.Counter[str]]:
    """How so many edits of each kind of file ended: refused, the same, changed, or a traceback."""
    draw, found = (
        random.Random(seed),
        collections.defaultdict[str, collections.Counter[str]](collections.Counter),
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = _sources(Path(folder))
        whole = {name: (path.read_bytes(), read()) for name, (path, read) in sources.items()}
        for i in range(edits):
            name = sorted(sources)[i % len(sources)]
            path, read = sources[name]
            path.write_bytes(_edited(whole[name][0], draw))
            try:
                again = read()
                end = "same" if again == whole[name][1] else "changed"
                end = "refused" if again is None else end
            except (NotbugsError, MemoryError):
                end = "refused"
            except Exception as error:
                end = f"traceback: {type(error).__name__}: {error}"[:100]
            found[name][end] += 1
            path.write_bytes(whole[name][0])
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = [int(a) for a in sys.argv[1:]]
    for kind, ends in sorted(fuzz(*[*numbers, *(1000, 0)[len(numbers) :]]).items()):
        print(f"{kind:12}", dict(ends))
