"""What each tab shows, from the functions that make it."""

import base64
import io
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from notbugs.app import Once, Subjects, crossover, explored, tab_attack, tab_crossover, tab_inside
from notbugs.app import tab_usefulness as tab_units
from notbugs.app.attacking import METHODS, attacked
from notbugs.app.crossover import OBSERVER, Crossover, radii_for
from notbugs.app.drawings import curves_of
from notbugs.app.images import UPLOAD_BYTES, as_text, from_text, uploaded
from notbugs.app.inside import looked
from notbugs.app.subjects import Pool
from notbugs.core.errors import DataError
from notbugs.data.pictures import picture_png
from notbugs.features import nearest_image
from notbugs.models import predicted_clean
from notbugs.store import Store

OTHER = "other <b>"


def attack_answer(explorer, **changed):
    x, label = tab_attack.chosen(explorer, 3)
    given = {
        "pixels": x, "label": label, "source": "standard", "method": "pgd", "norm": "linf",
        "eps": 0.3, "target": -1, "scale": "probabilities",
    }  # fmt: skip
    return tab_attack.answer(explorer, **{**given, **changed})


def test_an_image_survives_the_way_to_the_browser_and_back(subjects) -> None:
    x = subjects.test.pixels(slice(0, 1))
    back = from_text(as_text(x[0]), (1, 8, 8))
    assert back.shape == x.shape
    assert float((back - x).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("text", ["", "zz" * 64, "0" * 126, None, 5, "FF" * 64])
def test_other_text_is_no_image(text) -> None:
    with pytest.raises(ValueError, match=r"`image` must be 128 hex digits"):
        from_text(text, (1, 8, 8))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_verified_on_the_attacked_model(method, subjects) -> None:
    x, y = subjects.test.pixels(slice(0, 1)), int(subjects.test.labels[0])
    found = attacked(subjects.models, "standard", x, y, method, "l2", 2.0)
    assert found.distance == pytest.approx(float((found.x_adv - x).norm()), abs=1e-4)
    assert found.success
    assert int(found.after["standard"].argmax()) != y
    assert list(found.before) == list(found.after) == ["standard", OTHER]


def test_a_target_is_reached_and_eps_zero_changes_nothing(subjects) -> None:
    x, y = subjects.test.pixels(slice(0, 1)), int(subjects.test.labels[0])
    target = (y + 1) % 10
    found = attacked(subjects.models, "standard", x, None, "pgd", "l2", 3.0, target)
    assert found.success
    assert int(found.after["standard"].argmax()) == target
    still = attacked(subjects.models, "standard", x, y, "pgd", "l2", 0)
    assert torch.equal(still.x_adv, x)
    assert not still.success


def test_the_attack_tab_shows_images_scale_and_both_models(explorer) -> None:
    shown = attack_answer(explorer)
    assert shown.count("data:image/png;base64,") == 3
    assert "× 1.67, 0 is grey" in shown  # 0.5 / 0.3
    assert "another class is reached" in shown
    for column in ("standard, before", "standard, after", "other &lt;b&gt;, after"):
        assert f'<th scope="col">{column}</th>' in shown
    assert "<b>" not in shown
    shares = [float(v) for v in re.findall(r"<span>([\d.]+) %</span>", shown)]
    assert len(shares) == 40
    assert sum(shares) == pytest.approx(400, abs=4)
    assert "Logits of each class" in attack_answer(explorer, scale="logits")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "squares"}, "Unknown method 'squares'"),
        ({"source": "none"}, "Unknown model 'none'"),
        ({"method": "ddn"}, "`norm` must be one of ddn's: l2; got linf"),
        ({"eps": float("nan")}, "`eps` must be 0 or a radius; got nan"),
        ({"eps": float("inf")}, "norm:eps"),
        ({"eps": -1}, "`eps` must be 0 or a radius; got -1"),
        ({"label": 10}, "`label` must be a class or -1; got 10"),
        ({"target": "1"}, "`target` must be a class or -1; got 1"),
        ({"scale": "odds"}, "Unknown scale 'odds'"),
        ({"pixels": "ff"}, "`image` must be 128 hex digits; got 2 characters"),
    ],
)
def test_what_no_control_sends_is_refused(changed, words, explorer) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        attack_answer(explorer, **changed)


@pytest.mark.parametrize("row", [-1, 10_000, float("nan"), "1", None])
def test_there_is_no_such_image(row, explorer) -> None:
    with pytest.raises(ValueError, match=r"`image` must lie in 0\.\."):
        tab_attack.chosen(explorer, row)


def sent(content, name="a.png"):
    return f"upload:{name}:{base64.b64encode(content).decode()}"


def test_a_picture_is_taken_in(explorer) -> None:
    x = torch.linspace(0, 1, 256).reshape(1, 16, 16)
    pixels, label, note = tab_attack.received(explorer, sent(picture_png(x)))
    assert from_text(pixels, (1, 8, 8)).mean() == pytest.approx(0.5, abs=0.02)
    assert label == -1
    assert "resampled from 16 x 16 to 8 x 8 pixels" in note


SHADES = torch.linspace(0, 1, 64).reshape(1, 8, 8)


def bomb():
    """A PNG of 8,000 x 8,000 pixels in a few kilobytes."""
    file = io.BytesIO()
    Image.new("1", (8000, 8000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (sent(b"%!PS-Adobe-3.0 EPSF-3.0\n"), r"'a.png' is not a sound image"),
        (sent(b""), r"'a.png' is not a sound image"),
        (
            sent(picture_png(torch.linspace(0, 1, 64).reshape(1, 8, 8))[:60]),
            r"'a.png' is not a sound image",
        ),
        (sent(bomb()), r"'a.png' is too large .*at most 16,777,216 pixels"),
        (f"upload:a.png:{'A' * (UPLOAD_BYTES * 4 // 3 + 8)}", r"'a.png' is larger than 2 MiB"),
        ("upload:a.png:?", r"`upload` must be base64"),
        ("../../etc/passwd", r"`upload` must be written upload:NAME:BASE64"),
        (None, r"`upload` must be written upload:NAME:BASE64"),
    ],
    ids=["postscript", "empty", "cut short", "bomb", "too long", "no base64", "a path", "nothing"],
)
def test_hostile_uploads_are_refused_with_a_message(text, words) -> None:
    with pytest.raises((DataError, ValueError), match=words):
        uploaded(text, (1, 8, 8))


@pytest.mark.parametrize("name", ["../../etc/passwd", r"..\..\x", "x" * 10_000, "", "<b>\x1b[31m"])
def test_a_name_is_only_shown(name) -> None:
    _, changes = uploaded(sent(picture_png(torch.rand(1, 9, 9)), name), (1, 8, 8))
    shown = tab_attack.markup.sentence(" ".join(changes))
    assert ".." not in shown
    assert "<b>" not in shown
    assert "\x1b" not in shown
    assert len(shown) < 300


def test_the_crossover_starts_at_the_images_and_stays_within_each_radius(explorer) -> None:
    found, test = explorer.crossovers["standard", "det"], explorer.subjects.test
    assert found.radii.tolist() == [0.0, *radii_for((1, 8, 8), 4)]
    assert torch.equal(found.images[0], test.pixels(slice(0, 20)))
    sizes = (found.images - found.images[0]).flatten(2).norm(dim=2)
    assert bool((sizes <= found.radii[:, None] * 1.0001).all())
    assert torch.equal(found.labels, (found.true + 1) % 10)
    for k in range(5):
        says = predicted_clean(explorer.subjects.models[OTHER], found.images[k])
        assert torch.equal(found.said[OTHER][k], says)
        nearest = nearest_image(explorer.subjects.train)(found.images[k])
        assert torch.equal(found.said[OBSERVER][k], nearest)
    true, new = found.shares("standard")
    assert true[0] > 80
    assert new[-1] > 80
    assert found.shares(OBSERVER)[1][1] < 20


def test_other_moves_by_the_whole_radius_and_never_to_the_true_class(explorer) -> None:
    found = explorer.crossovers[OTHER, "other"]
    assert bool((found.labels != found.true).all())
    sizes = (found.images - found.images[0]).flatten(2).norm(dim=2)
    reached = found.radii[:, None].expand_as(sizes).float()
    torch.testing.assert_close(sizes, reached, rtol=0.011, atol=1e-6)


def test_the_crossover_is_stored(explorer) -> None:
    found = explorer.crossovers["standard", "det"]
    again = Crossover.of(found.tensors(), explorer.subjects.models)
    assert list(again.said) == [OBSERVER, "standard", OTHER]
    assert torch.equal(again.said["standard"], found.said["standard"])
    with pytest.raises(ValueError, match=r"`radii` must be a finite number above 0"):
        crossover(
            explorer.subjects.models, "standard", explorer.subjects.train,
            explorer.subjects.test, "det", [0.0],
        )  # fmt: skip


def test_the_crossover_tab_shows_the_radius_next_to_eps(explorer) -> None:
    curves = tab_crossover.drawn(explorer)
    shown = tab_crossover.answer(explorer, curves, "standard", "det", 1.4, 2)
    found = explorer.crossovers["standard", "det"]
    assert f"ε {float(found.radii[2]):g} in L2" in shown
    assert f"<span>{found.shares('standard')[1][2]:.0f} %</span>" in shown
    assert shown.count("nb-now") == 1
    with pytest.raises(ValueError, match=r"`eps` must lie in 0\.\.3; got 9"):
        tab_crossover.answer(explorer, curves, "standard", "det", 9, 0)
    with pytest.raises(ValueError, match=r"Unknown kind 'x'"):
        tab_crossover.answer(explorer, curves, "standard", "x", 1, 0)


def test_the_mark_of_a_radius_lies_on_its_points(explorer) -> None:
    found = explorer.crossovers["standard", "det"]
    curves = curves_of(found, "c")
    points = re.findall(r'<use href="#c-\w+" x="([\d.]+)"', curves.svg)
    own = sorted({round(float(x), 1) for x in points})
    for place in curves.places:
        assert min(abs(place - x) for x in own) < 0.2
    assert "#0072b2" not in curves.svg  # colours follow the page
    assert "var(--nb-blue)" in curves.svg


@pytest.mark.parametrize("mode", tab_inside.MODES)
def test_the_inside_tab_shows_both_models(mode, explorer) -> None:
    shown = tab_inside.answer(explorer, mode, 0, 1, 3)
    assert "<h3>other &lt;b&gt;</h3>" in shown
    assert shown.count("data:image/png") == 2 * {"Invert": 3, "Interpolate": 7}.get(mode, 4)


def test_what_is_looked_at_inside_is_what_it_says(explorer) -> None:
    model, x = explorer.subjects.models["standard"], explorer.subjects.test.pixels(slice(0, 2))
    known = explorer.attributes["standard"]
    unit, rise = int(known.units[4]), float(known.rises[4])
    row = looked("Add a feature", model, x[:1], x[1:], 4, known)
    with torch.no_grad():
        values = model.embed(row.images)[:, unit]
    assert float(values[2] - values[0]) == pytest.approx(rise, abs=0.05 * abs(rise))
    found = looked("Invert", model, x[:1], x[1:], 0, known)
    with torch.no_grad():
        embedded = model.embed(found.images)
    assert float((embedded[2] - embedded[0]).norm() / embedded[0].norm()) < 0.1
    with pytest.raises(ValueError, match=r"Unknown mode 'Dream'"):
        looked("Dream", model, x[:1], x[1:], 0, known)
    with pytest.raises(ValueError, match=r"`class` must lie in 0\.\.9; got 10"):
        looked("Add a feature", model, x[:1], x[1:], 10, known)


def test_each_point_of_the_plane_has_its_images(explorer) -> None:
    planes, places = tab_units.drawn(explorer), tab_units.places(explorer)
    found = explorer.planes[OTHER]
    with torch.no_grad():
        values = explorer.subjects.models[OTHER].embed(explorer.subjects.train.pixels())
    for i, unit in enumerate(found.units.tolist()):
        assert places[f"m1-unit-{i}"] == (OTHER, i)
        assert planes[OTHER].count(f'id="m1-unit-{i}"') == 1
        assert int(found.highest[i, 0]) == int(values[:, unit].argmax())
    assert bool((found.rho >= found.gamma).all())
    marked, shown = tab_units.answer(explorer, planes, "m1-unit-1")
    assert marked.count("nb-chosen") == 1
    assert f"ρ {float(found.rho[1]):.2f}" in shown
    assert shown.count("data:image/png") == 11
    with pytest.raises(ValueError, match=r"`unit` must be a point of the plane"):
        tab_units.answer(explorer, planes, "m9-unit-1")


def test_what_is_computed_once_is_not_computed_again(explorer, subjects, tmp_path) -> None:
    store = Store(tmp_path / "store")
    once = Once(count=10, steps=1, points=1, images=60, unit_steps=1)
    one = replace(subjects, models={"standard": subjects.models["standard"]})
    first = explored(one, store, once=once)
    stored = {entry.key: entry.path.stat().st_mtime_ns for entry in store.entries()}
    again = explored(one, store, once=once)
    assert {e.key: e.path.stat().st_mtime_ns for e in store.entries()} == stored
    assert torch.equal(first.planes["standard"].rho, again.planes["standard"].rho)


def test_a_lent_copy_is_one_request_s_alone(subjects) -> None:
    pool = Pool(subjects, 2)
    with pool.lent() as first, pool.lent() as second:
        models = [s.models["standard"] for s in (subjects, first, second)]
        assert len({id(m) for m in models}) == 3
        x = subjects.test.pixels(slice(0, 4))
        with torch.no_grad():
            assert torch.equal(models[0](x), models[2](x))


def test_subjects_are_models_of_one_kind_of_images(subjects, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"`models` must be 1 to 3; got 0"):
        Subjects({}, subjects.train, subjects.test)
    small = subjects.test.pixels()[:, :, :7, :7]
    with pytest.raises(ValueError, match=r"`models` must take images \(1, 7, 7\)"):
        replace(subjects, test=replace(subjects.test, images=small))
    few = subjects.test.select(subjects.test.labels != 4)
    with pytest.raises(ValueError, match=r"none of '4'"):
        explored(replace(subjects, test=few), Store(tmp_path / "store"))
