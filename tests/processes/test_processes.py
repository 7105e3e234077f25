"""Two processes that share a job get what one gets, and say so when they lose each other."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import jobs
from notbugs.cli import main
from notbugs.core import processes

# Without the second, restarted workers may meet the addresses of those before them
# (pytorch/pytorch issue 135712).
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def launched(*arguments, launcher=TORCHRUN):
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=600,
    )


@pytest.fixture(scope="module")
def results_of_two_processes(tmp_path_factory: pytest.TempPathFactory):
    """What each of two processes got: (its words, its tensors)."""
    folder = tmp_path_factory.mktemp("pair")
    done = launched(Path(jobs.__file__), "everything", folder)
    assert done.returncode == 0, done.stderr
    return [
        (
            json.loads((folder / f"{rank}.json").read_text()),
            load_file(folder / f"{rank}.safetensors"),
        )
        for rank in (0, 1)
    ]


def test_they_hear_each_other_and_share_errors(results_of_two_processes) -> None:
    for rank, (found, _) in enumerate(results_of_two_processes):
        assert found["heard"] == [0, 1]
        assert found["alone"] == [0]
        assert found["raised"] == "The first process says no."
        assert found["first"] == (rank == 0)


def test_both_end_with_the_same(results_of_two_processes) -> None:
    (first, ours), (second, theirs) = results_of_two_processes
    assert first["verdict"]["broken_by"] == second["verdict"]["broken_by"]
    assert first["checks"] == second["checks"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", jobs.RECIPES)
def test_a_training_by_two_is_that_of_one(results_of_two_processes, name) -> None:
    """Also through batch norms, running statistics, moved weights and averages."""
    state, history = jobs.trained(name)
    for key, value in state.items():
        torch.testing.assert_close(
            results_of_two_processes[0][1][f"{name}/{key}"], value, rtol=1e-7, atol=1e-9
        )
    for mine, two in zip(history, results_of_two_processes[0][0][name], strict=True):
        assert mine == pytest.approx(two, rel=1e-6)


def test_a_verdict_and_sets_by_two_are_those_of_one(
    results_of_two_processes, tmp_path: Path
) -> None:
    found, tensors = results_of_two_processes[0]
    model = jobs.learnt()
    verdict = jobs.judged(model, tmp_path)
    assert 0 < int(verdict.robust.sum()) < len(verdict.robust)  # there was something to find
    assert found["verdict"]["broken_by"] == verdict.broken_by.tolist()
    assert found["checks"] == [line["check"] for line in verdict.masking]
    for name, made in jobs.sets(model).items():
        torch.testing.assert_close(tensors[f"set/{name}"], made.pixels(), rtol=0, atol=1e-4)
    said = jobs.predictions(model, jobs.digits().val)
    assert torch.equal(tensors["said"], said)


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """torchrun starts all anew; they go on from the checkpoint to the same weights."""
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for folder in (broken, whole):
        folder.mkdir()
    jobs_file = Path(jobs.__file__)
    restarting = [*TORCHRUN, "--max-restarts", "1"]
    done = launched(jobs_file, "killed", broken, launcher=restarting)
    assert done.returncode == 0, done.stderr
    assert (broken / "resumed").read_text() == "True"
    model, parts = jobs.net(), jobs.digits()
    recipe = jobs.replace(jobs.SHORT, epochs=5)
    jobs.train(model, parts.train, recipe, seed=0)
    end = load_file(broken / "end.safetensors")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(end[name], value, rtol=1e-7, atol=1e-9)


def two_alone(*arguments):
    """(exit status, stderr) of two processes that no launcher ends, as torchrun may."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    meeting["TORCHELASTIC_RESTART_COUNT"] = "0"
    both = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**ENVIRONMENT, **meeting, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [one.communicate(timeout=300)[1] for one in both]
    finally:
        for one in both:
            one.kill()
    return [(one.returncode, words) for one, words in zip(both, said, strict=True)]


def test_the_process_that_is_left_says_what_happened(tmp_path: Path) -> None:
    (left, said), (killed, _) = two_alone(jobs.__file__, "killed", tmp_path)
    assert killed == -signal.SIGKILL
    assert left == 1
    assert "Process 0 of 2 lost the others: one of them ended." in said
    assert (tmp_path / "checkpoint.safetensors").exists()
    assert not (tmp_path / "end.safetensors").exists()


def test_the_command_line_shares_its_work_under_accelerate(tmp_path: Path) -> None:
    arguments = ("train", "--recipe", "pgd", "--epochs", "2", "--train-size", "200")
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = launched("-m", "notbugs", *arguments, "--out", tmp_path / "two", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Held-out validation") == 1  # one of them talks
    main([*arguments, "--out", str(tmp_path / "one")])
    two, one = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0.05, atol=5e-3)
    rows = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_one_process_alone_can_do_is_refused_to_two(
    rank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit):
        main(["data", "list"])
    said = capsys.readouterr().err
    assert said.startswith("error:" if rank == "0" else "process 1: error:")
    assert "must be 1 for `notbugs data`; got 2" in said


def test_bad_input_is_said_by_each_with_its_number() -> None:
    ended = two_alone("-m", "notbugs", "train", "--batch-size", "65", "--out", "no-such")
    for (status, said), begins in zip(ended, ("error:", "process 1: error:"), strict=True):
        assert status == 2
        (line,) = (one for one in said.splitlines() if "divisible by the number" in one)
        assert line.startswith(begins)


def test_batches_must_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(ValueError, match=r"`batch_size` must be divisible .* 3; got 32"):
        jobs.trained("pgd")


def test_one_process_is_alone() -> None:
    assert (processes.count(), processes.rank(), processes.is_first()) == (1, 0, True)
    assert processes.all_gather("x") == ["x"]
    assert processes.from_first(lambda: 3) == 3
    assert processes.after_first(lambda: 4) == 4
    assert processes.total(torch.ones(2)).tolist() == [1, 1]
    assert processes.part(torch.arange(4)).tolist() == [0, 1, 2, 3]


def test_work_in_batches_keeps_the_order_and_tells_how_far_it_is() -> None:
    told = []
    a, b = processes.in_batches(10, 4, lambda i: (i, 2 * i), told.append)
    assert a.tolist() == list(range(10))
    assert b.tolist() == [2 * i for i in range(10)]
    assert told == [0.4, 0.8, 1.0]
