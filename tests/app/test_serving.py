"""The real server: over HTTP as a client, a browser, and somebody who means harm."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from browser import needs_browser
from notbugs.app import tab_attack
from notbugs.app.guard import BODY
from notbugs.app.images import from_text
from notbugs.cli import main
from notbugs.data.pictures import picture_png
from notbugs.models import save

pytestmark = pytest.mark.skipif(
    find_spec("gradio") is None, reason="needs gradio, which is not installed"
)
READY = "document.querySelectorAll('.nb-bars').length > 0"
NAMES = ("standard", "other <b>")
GIVEN = ("standard", "pgd", "linf", 0.3, -1, "probabilities")


@pytest.fixture(scope="module")
def process(explorer, store, tmp_path_factory: pytest.TempPathFactory):
    """The command, serving the same models; its store is filled already."""
    folder = tmp_path_factory.mktemp("weights")
    facts = {"dataset": "digits", "split": {"seed": 0, "train_size": 500, "test_size": None}}
    for name in NAMES:
        save(explorer.subjects.models[name], folder / f"{name}.safetensors", metadata=facts)
    command = ["-m", "notbugs", "explore", *(str(folder / f"{n}.safetensors") for n in NAMES)]
    command += ["--port", "0", "--store", str(store.root), "--quick"]
    # What a terminal's process has: others may be started with the signal ignored.
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as running:  # fmt: skip
        yield running
        running.kill()


@pytest.fixture(scope="module")
def url(process) -> str:
    for line in process.stdout:
        if "stages to do" in line:  # the weights are known by their content
            assert line.startswith("0 stages to do"), line
        if line.startswith("Open "):
            return line.split()[1]
    raise AssertionError(process.stderr.read())


def asked(url, method, path, body=None, headers=None) -> tuple[int, bytes]:
    """Status and content of a request, whose path is sent as it is."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def called(url, name, *given):
    """What an endpoint answers, as a client of gradio's API asks it.

    **Raises** RuntimeError with the message of its error.
    """
    place = f"/gradio_api/call/{name}"
    form = {"content-type": "application/json"}
    status, content = asked(url, "POST", place, json.dumps({"data": given}), form)
    assert status == 200, content
    _, told = asked(url, "GET", f"{place}/{json.loads(content)['event_id']}")
    event, data = re.findall(r"event: (\w+)\ndata: (.*)\n", told.decode())[-1]
    if event != "complete":
        raise RuntimeError(data)
    answers = json.loads(data)
    return answers if len(answers) > 1 else answers[0]


def test_every_tab_answers(url, explorer) -> None:
    pixels, label = called(url, "choose", 5)
    assert (pixels, label) == tab_attack.chosen(explorer, 5)
    shown = called(url, "attack", pixels, label, *GIVEN)
    assert shown == tab_attack.answer(explorer, pixels, label, *GIVEN)
    assert "label-to-be" in called(url, "crossover", "standard", "det", 1.5, 3)
    assert "inverted" in called(url, "inside", "Invert", 0, 1, 0)
    _, unit = called(url, "unit", "m0-unit-1")
    assert "activate it most" in unit


def test_an_error_is_a_message_and_nothing_of_the_host(url) -> None:
    pixels, label = called(url, "choose", 5)
    with pytest.raises(RuntimeError, match=r"`norm` must be one of ddn.*s: l2; got linf") as caught:
        called(url, "attack", pixels, label, "standard", "ddn", *GIVEN[2:])
    assert "site-packages" not in str(caught.value)
    with pytest.raises(RuntimeError, match="`image` must be 128 hex digits"):
        called(url, "attack", "../../etc/passwd", 3, *GIVEN)
    for unknown in ("/etc/passwd", "<script>"):
        with pytest.raises(RuntimeError, match="not in the list of choices"):
            called(url, "attack", pixels, label, unknown, *GIVEN[1:])


def test_pictures_are_taken_in_or_refused(url) -> None:
    content = base64.b64encode(picture_png(torch.rand(3, 20, 20))).decode()
    pixels, label, note = called(url, "upload", f"upload:../../a.png:{content}")
    assert from_text(pixels, (1, 8, 8)).shape == (1, 1, 8, 8)
    assert label == -1
    assert "../" not in note
    for bad in ("upload:a.eps:JSFQUw==", "upload:a:?", "x" * 1000, None, {"path": "/etc/passwd"}):
        with pytest.raises(RuntimeError, match=r"a\.eps|base64|upload:NAME"):
            called(url, "upload", bad)


def test_users_at_once_get_their_own_answers(url, explorer) -> None:
    images = [tab_attack.chosen(explorer, i) for i in range(12)]
    given = ("standard", "pgd", "linf", 0.2, -1, "logits")
    wanted = [tab_attack.answer(explorer, *image, *given) for image in images]
    with ThreadPoolExecutor(12) as users:
        answers = list(users.map(lambda image: called(url, "attack", *image, *given), images))
    assert answers == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=%2Fetc%2Fpasswd",
        "/gradio_api/file=C:/Windows/win.ini",
        "/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/static/../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/assets//etc/passwd",
        "/svelte/../../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_file_of_the_host_is_read(path, url) -> None:
    status, content = asked(url, "GET", path)
    assert status in (400, 403, 404)
    assert b"root:" not in content
    assert asked(url, "POST", "/gradio_api/upload", b"--x--")[0] == 404


def test_nothing_too_large_is_read(url) -> None:
    headers = {"content-type": "application/json"}
    status, _ = asked(url, "POST", "/gradio_api/queue/join", b"[" * (BODY + 1), headers)
    assert status == 413
    assert asked(url, "POST", "/gradio_api/queue/join", b"[" * 100_000, headers)[0] in (400, 422)
    assert asked(url, "GET", "/")[0] == 200


def test_the_page_names_no_other_host(url) -> None:
    _, page = asked(url, "GET", "/")
    places = {part.split(b'"')[0] for part in page.split(b"https://")[1:]}
    assert places == set()
    _, theme = asked(url, "GET", "/theme.css")
    assert b"//" not in theme.replace(b"http://www.w3.org/2000/svg", b"")


def test_it_listens_here_alone(url, explorer) -> None:
    where = urlsplit(url)
    assert where.hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", where.port), 2)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_offline(width, url, browser) -> None:
    page = browser
    page.fresh(width)
    page.open(url, READY)
    assert page.run("document.documentElement.scrollWidth") <= width
    drawn = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 8, 8).data"
    page.wait(f"{drawn}.some((v, i) => i % 4 < 3 && v)")  # the image is there
    empty = f"{drawn}.every((v, i) => i % 4 === 3 || v === 0)"
    page.click_until("document.querySelector('.nb-pad button')", empty)
    before = page.run("document.querySelector('.nb-image img').src")
    page.run("document.querySelector('canvas').focus()")
    for key, code, text in (("ArrowRight", 39, ""), ("ArrowDown", 40, ""), (" ", 32, " ")):
        page.key(key, code, text)
    page.wait("document.querySelector('.nb-status').textContent === 'Column 2, row 2: 255 of 255'")
    page.wait(f"document.querySelector('.nb-image img').src !== {json.dumps(before)}")
    unlabelled = (
        "[...document.querySelectorAll('input, canvas, button')].filter((e) => e.offsetParent"
        " && !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent"
        ".trim() && !e.title).map((e) => e.outerHTML.slice(0, 200))"
    )
    assert page.run(unlabelled) == []
    own = ("http://127.0.0.1", "data:", "blob:")
    assert [u for u in page.loaded if not u.startswith(own)] == []
    assert page.console == []


@needs_browser
def test_a_click_on_the_plane_shows_the_unit(url, browser) -> None:
    page = browser
    page.fresh()
    page.open(url, READY)
    tab = "[...document.querySelectorAll('[role=tab]')].filter((t) => t.offsetParent)"
    shown = "document.querySelector('#m1-unit-2')?.getBoundingClientRect().width > 0"
    page.click_until(f"{tab}.find((t) => t.textContent.trim() === 'Usefulness')", shown)
    chosen = "document.querySelector('#m1-unit-2.nb-chosen')"
    page.click_until("document.querySelector('#m1-unit-2')", chosen)
    assert page.run("document.querySelectorAll('.nb-chosen').length") == 1
    assert page.console == []


def test_wrong_options_are_refused_before_any_work(
    subjects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(subjects.models["standard"], tmp_path / "net.safetensors", metadata={})
    weights = [str(tmp_path / "net.safetensors")] * 2
    for words, said in (
        (["--port", "70000"], "`port` must lie in 0..65535; got 70000"),
        (["--threat", "l0:3"], "`threat` must have one of the norms"),
        (["--at-once", "0"], "`--at-once` must be at least 1"),
        ([*weights, "--data", "digits"], "`weights` must name each model once"),
    ):
        with pytest.raises(SystemExit):
            main(["explore", "--store", str(tmp_path / "store"), *words])
        assert said in capsys.readouterr().err


def test_it_ends_cleanly_when_interrupted(url, process) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.returncode == 130
    errors = process.stderr.read()
    assert errors.endswith("\nStopped.\n")
    assert "KeyboardInterrupt" not in errors
