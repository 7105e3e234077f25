"""Commands that are stopped at the keyboard: what they say, and what they leave."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notbugs.cli import main
from notbugs.cli.train import Train
from notbugs.judge import diagnose
from notbugs.training import trainer

TRAIN = ["train", "--train-size", "300", "--epochs", "3"]
FROM_SCRATCH = "starts from the beginning"


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    main([*TRAIN, "--out", str(folder)])
    return str(folder)


def press(*given, number=signal.SIGINT, **named) -> None:
    signal.raise_signal(number)


def stopped(capsys: pytest.CaptureFixture[str], *words, code=130):
    """What a command says that is stopped by a signal."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return " ".join(said.err.split()), said.out


def test_a_training_that_is_stopped_says_where_and_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, steps = trainer.seed_global_rng, []

    def seed_global_rng(device, *names) -> None:
        steps.append(names[-1])
        if steps == list(range(6)):
            press()
        real(device, *names)

    monkeypatch.setattr(trainer, "seed_global_rng", seed_global_rng)
    out = tmp_path / "a"
    said, _ = stopped(capsys, *TRAIN, "--out", out)
    where = f"Stopped in epoch 2 of 3, after step 2 of 4; saved to '{out}/checkpoint.safetensors'."
    assert said == f"{where} The same command resumes it."
    main([*TRAIN, "--out", str(out)])
    assert "Resuming from" in capsys.readouterr().out
    assert steps == list(range(12))  # none was taken twice
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_training_that_is_stopped_after_its_end_says_that_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Train, "_print", press)
    said, _ = stopped(capsys, *TRAIN, "--out", tmp_path)
    assert said == f"Stopped; the model is finished and saved: '{tmp_path}/model.safetensors'."
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_training_that_is_stopped_before_it_begins(
    number,
    code,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trainer.Trainer, "__init__", lambda *g, **n: press(number=number))
    said, _ = stopped(capsys, *TRAIN, "--out", tmp_path, code=code)
    assert said == f"Stopped before the first checkpoint. The same command {FROM_SCRATCH}."
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("where", "words", "options"),
    [
        ("notbugs.cli.attack.AttackRun.attack_all", FROM_SCRATCH, ["attack", "--threat", "l2:1"]),
        ("notbugs.cli.look.invert_images", FROM_SCRATCH, ["look", "--invert", "--image", "1"]),
        ("notbugs.cli.sets.inverted_set", FROM_SCRATCH, ["build", "robust"]),
        ("notbugs.cli.evaluate.evaluate", "finished batches are kept",
         ["evaluate", "--threat", "l2:1", "--method", "pgd", "--count", "5"]),
        ("notbugs.cli.reproduce.run", "Finished stages are in the store",
         ["reproduce", "ilyas2019"]),
    ],
    ids=["attack", "look", "build", "evaluate", "reproduce"],
)  # fmt: skip
def test_what_is_lost_is_said(
    where,
    words,
    options,
    trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(where, press)
    name, *more = options
    given = [trained] if name != "reproduce" else []
    if name in ("look", "build", "reproduce"):
        more += ["--out", tmp_path / {"look": "a.png", "build": "a.safetensors"}.get(name, "a")]
    said, _ = stopped(capsys, name, *(more[:1] if name == "build" else []), *given,
                      *(more[1:] if name == "build" else more))  # fmt: skip
    assert said.startswith("Stopped.")
    assert words in said
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".safetensors")]


def test_an_evaluation_stopped_in_its_diagnosis_keeps_the_rest(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "cache"))
    command = [
        "evaluate",
        trained,
        "--threat",
        "l2:3",
        "--count",
        20,
        "--json",
        tmp_path / "a.json",
    ]
    monkeypatch.setattr(sys.modules["notbugs.judge.evaluate"], "diagnose", press)
    stopped(capsys, *command)
    (state,) = tmp_path.glob("cache/evaluations/*.json")
    assert json.loads(state.read_text())["seen"]["0"]
    monkeypatch.setattr(sys.modules["notbugs.judge.evaluate"], "diagnose", diagnose)
    main([str(word) for word in command])
    assert "Resuming from where this evaluation was stopped." in capsys.readouterr().out
    assert not state.exists()
