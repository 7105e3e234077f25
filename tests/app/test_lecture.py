"""The page for lectures: what it says, and that its script computes what Python does."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from browser import needs_browser
from notbugs.app import Crossover, write_lecture
from notbugs.app.crossover import OBSERVER
from notbugs.app.lecture import GALLERY, SHOWN, unseen
from notbugs.cli import main
from notbugs.core.errors import StoreError
from notbugs.data import read_picture
from notbugs.theory import Gaussians, robust_fit

READY = "document.querySelectorAll('#numbers tr').length === 2"


@pytest.fixture(scope="module")
def found(explorer) -> Crossover:
    return explorer.crossovers["standard", "other"]


@pytest.fixture(scope="module")
def lecture(explorer, found, tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = explorer.subjects.test.class_names
    return write_lecture(tmp_path_factory.mktemp("a") / "lecture", found, classes, "<i>digits")


def test_it_is_a_folder_of_plain_files(lecture, found) -> None:
    names = {path.name for path in lecture.parent.iterdir()}
    pictures = {f"images-{k:02}.png" for k in range(5)} | {f"gallery-{i:02}.png" for i in range(20)}
    assert names == {"index.html", "crossover.json", *pictures}
    text = lecture.read_text(encoding="utf-8")
    assert "<i>" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len({*ids})
    outside = text.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999", "")
    assert "://" not in outside
    numbers = json.loads((lecture.parent / "crossover.json").read_text())
    assert numbers["shares"][OBSERVER]["new"] == found.shares(OBSERVER)[1]
    assert numbers["said"]["standard"] == found.said["standard"][:, :SHOWN].tolist()
    k, shape = unseen(found), (1, 8, 8)
    for i in range(GALLERY):
        shown, _ = read_picture(lecture.parent / f"gallery-{i:02}.png", shape)
        assert float((shown[0] - found.images[k, i]).abs().max()) < 0.503 / 255


def test_the_gallery_s_radius_is_the_last_that_the_observer_does_not_see(found) -> None:
    n = len(found.true)

    def seen_by(*counts) -> Crossover:
        rows = [torch.cat([found.labels[:c], found.true[c:]]) for c in counts]
        return replace(found, said={**found.said, OBSERVER: torch.stack(rows)})

    assert n == 20
    assert unseen(seen_by(0, 1, 1, 2, 0)) == 2  # 5 % is the limit, and it counts up to there
    assert unseen(seen_by(0, 0, 0, 0, 1)) == 4
    assert unseen(seen_by(2, 0, 0, 0, 0)) == 0


def test_what_cannot_be_written_is_refused(lecture, found, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is already there"):
        write_lecture(lecture.parent, found, tuple("0123456789"), "digits")
    few = {"true": found.true[:5], "labels": found.labels[:5], "images": found.images[:, :5]}
    few |= {"said": {name: said[:, :5] for name, said in found.said.items()}}
    with pytest.raises(ValueError, match=r"`found` must hold 20 images; got 5"):
        write_lecture(tmp_path / "new", replace(found, **few), tuple("0123456789"), "digits")
    assert not (tmp_path / "new").exists()


def test_the_command_refuses_a_folder_with_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["lecture", "--out", str(tmp_path)])
    assert "is already there and not empty" in capsys.readouterr().err


def numbers_of(mean, variances, eps):
    """What `gaussians` of the page's script gives, by Python."""
    mean, variances = (torch.tensor(v, dtype=torch.float64) for v in (mean, variances))
    true = Gaussians(mean, torch.diag(variances))
    fit, multiplier = robust_fit(true, eps=eps)
    weights = (true.weights, fit.weights)
    return [
        multiplier,
        *torch.diagonal(fit.covariance).tolist(),
        *(true.accuracy(w) for w in weights),
        *(true.accuracy(w, eps) for w in weights),
        true.alignment(),
        fit.alignment(),
    ]


@needs_browser
def test_the_script_computes_what_the_theory_does(lecture, browser) -> None:
    cases = [
        ([1.0, 0.5], [0.2, 2.0], 0.5),
        ([0.2, 0.0], [4.0, 4.0], 0.05),
        ([3.0, 0.0], [0.05, 4.0], 2.0),
        ([2.0, 2.0], [0.05, 0.05], 0.05),
        ([0.1, 3.0], [1.0, 0.3], 1.3),
    ]
    page = browser
    page.fresh()
    page.open(lecture.as_uri(), READY)
    for mean, variances, eps in cases:
        told = page.run(
            f"(() => {{ const g = gaussians({mean}, {variances}, {eps}); return ["
            "g.fit.multiplier, ...g.fit.variances, g.standard.accuracy, g.robust.accuracy, "
            "g.standard.robust, g.robust.robust, g.standard.cosine, g.robust.cosine]; })()"
        )
        assert told == pytest.approx(numbers_of(mean, variances, eps), rel=1e-9, abs=1e-12)
    for x in (-7.0, -3.1, -3.0, -0.4, 0.0, 1e-3, 2.9, 3.0, 6.0):
        wanted = float(torch.special.ndtr(torch.tensor(x, dtype=torch.float64)))
        assert page.run(f"normal({x})") == pytest.approx(wanted, rel=1e-9, abs=1e-13)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_and_keys_move_it(width, lecture, found, browser) -> None:
    page = browser
    page.fresh(width, dark=width == 390)
    page.open(lecture.as_uri(), READY)
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 27, 34)" if width == 390 else "rgb(255, 255, 255)")
    assert page.run("document.documentElement.scrollWidth") <= width
    page.run("document.getElementById('eps-crossover').focus()")
    for _ in range(3):
        page.key("ArrowRight", 39)
    assert page.run("document.getElementById('pushed').src").endswith("images-03.png")
    share = found.shares("standard")[1][3]
    assert f"standard {share:.0f} %" in page.run("document.getElementById('shares').innerText")
    before = page.run("document.getElementById('numbers').innerText")
    page.run("document.getElementById('eps').focus()")
    page.key("End", 35)
    assert page.run("document.getElementById('numbers').innerText") != before
    hidden = "getComputedStyle(document.querySelector('.gallery .true')).visibility"
    assert page.run(hidden) == "hidden"
    page.run("document.getElementById('reveal').focus()")
    page.key(" ", 32, " ")
    assert page.run(hidden) == "visible"
    page.wait("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    folder = lecture.parent.as_uri()
    assert [u for u in page.loaded if not u.startswith((folder, "data:"))] == []
    assert page.console == []
