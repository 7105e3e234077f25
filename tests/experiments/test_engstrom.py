"""The experiment on representations in miniature, and its claims on numbers that are known."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.data.safefile import read_tensors
from notbugs.experiments import engstrom2019
from notbugs.experiments.engstrom.graph import graph
from notbugs.experiments.engstrom.measurements import VARIANTS
from notbugs.experiments.engstrom.outcome import SeedNumbers
from notbugs.experiments.engstrom.settings import engstrom_config
from notbugs.experiments.plan import Where, plan
from notbugs.models import load as load_model
from notbugs.models.prior_files import load_prior
from notbugs.report import write_engstrom_report
from notbugs.store import SilentObserver, Store


def smoke(folder, store, workers=0):
    return engstrom2019.run(
        engstrom_config("digits", "smoke"),
        Store(store),
        where=Where(),
        out=folder,
        workers=workers,
        observer=SilentObserver(),
    )


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("looks")
    return folder, smoke(folder, folder / "store")


def test_every_table_has_its_rows(finished_run) -> None:
    folder, result = finished_run
    assert json.loads((folder / "results.json").read_text())["experiment"] == "engstrom2019"
    tables = {name: [row["row"] for row in rows] for name, rows in result["tables"].items()}
    assert tables["inversion"] == [
        f"{kind}, from {start}"
        for start in ("noise", "another image")
        for kind in ("standard", "robust")
    ]
    assert len(tables["visualisation"]) == 2 * len(VARIANTS)
    assert {"gain", "interpolation", "units", "manipulation", "gradients", "patterns"} <= set(
        tables
    )
    assert [row for row in tables["downsampling"] if row.startswith("classifier")] == [
        "classifier, stride",
        "classifier, even",
        "classifier, blur",
    ]
    for row in result["tables"]["inversion"]:
        assert 0 < row["relative_error"] < row["start_error"]
        assert -1 <= row["ssim"] <= 1
        assert row["lpips"] >= 0
    for row in result["tables"]["visualisation"]:
        assert all(0 <= row[c] <= 100 for c in ("judge", "neighbours", "high_frequencies"))
    assert {c["id"] for c in result["claims"]} == {c.id for c in engstrom2019.CLAIMS}


def test_files_lie_there_and_the_numbers_can_be_made_again_from_the_pictures(finished_run) -> None:
    folder, _ = finished_run
    for name in ("standard", "robust", "judge"):
        model, facts = load_model(folder / "models" / f"{name}-seed0.safetensors")
        assert (model.classes, facts["dataset"]) == (10, "digits")
    assert load_prior(folder / "priors" / "denoiser-seed0.safetensors").shape == (1, 8, 8)
    pictures, _ = read_tensors(folder / "pictures.safetensors", what="data")
    made = pictures["inversion/inverted/noise/robust"]
    target = pictures["inversion/targets"]
    robust, _ = load_model(folder / "models" / "robust-seed0.safetensors")
    with torch.no_grad():
        a, b = robust.eval().embed(made), robust.embed(target)
    start = robust.embed(pictures["inversion/inverted/noise/start"]).detach()
    assert bool(((a - b).norm(dim=1) < (start - b).norm(dim=1)).all())


def test_the_same_again_comes_from_the_store(finished_run, tmp_path: Path) -> None:
    folder, result = finished_run
    again = smoke(tmp_path / "again", folder / "store")
    assert again["tables"] == result["tables"]
    assert again["seconds"] == 0


def test_models_are_those_of_the_main_experiment() -> None:
    looks = engstrom_config("digits", "smoke")
    theirs = {row.set: row.model.key for row in plan(looks.models, Where()).rows}
    ours = graph(looks, Where()).models[0]
    assert ours["standard"].key == theirs["D"]
    assert ours["robust"].key == theirs["D_adv"]
    assert ours["judge"].key not in theirs.values()


def test_the_page_shows_what_was_found(finished_run) -> None:
    folder, result = finished_run
    page = write_engstrom_report(folder).read_text()
    for claim in result["claims"]:
        assert claim["statement"].split(",")[0].replace("'", "&#39;") in page
    for name in ("inversion", "paths", "visualisations", "units", "pushes", "spectra", "artefacts"):
        assert f'<figure id="{name}"' in page
        assert (folder / "figures" / f"{name}.png").stat().st_size > 2000
    assert "notbugs reproduce engstrom2019 --data digits --preset smoke" in page


def seen(**rows) -> SeedNumbers:
    """Numbers by "table/row" with columns of seeds."""
    tables = {}
    for place, columns in rows.items():
        table, row = place.split("/")
        tables.setdefault(table, {})[row] = columns
    return SeedNumbers(tables)


def claimed(name, numbers):
    found = next(c for c in engstrom2019.CLAIMS if c.id == name).measure(numbers)
    return None if found is None else found.holds


def test_a_gain_must_exceed_two_standard_errors_in_every_seed() -> None:
    def gains(values, errors):
        return seen(
            **{
                "gain/robust - standard, from noise": {"ssim": values, "ssim_error": errors},
                "inversion/robust, from noise": {"ssim": [0.5, 0.6, 0.6]},
                "inversion/standard, from noise": {"ssim": [0.3, 0.3, 0.3]},
            }
        )

    assert claimed("nearer_ssim", gains([0.2, 0.3, 0.2], [0.05] * 3)) is True
    assert claimed("nearer_ssim", gains([0.2, 0.3, 0.09], [0.05] * 3)) is False
    assert claimed("nearer_ssim", gains([-0.2, -0.3, -0.2], [0.05] * 3)) is False
    assert claimed("nearer_ssim", gains([0.2, 0.3], [0.05] * 2)) is None
    assert claimed("nearer_ssim", seen()) is None


def test_low_errors_are_low_beyond_their_spread() -> None:
    def reached(*errors):
        return seen(
            **{"inversion/robust, from noise": {"relative_error": errors, "start_error": [1.0]}}
        )

    assert claimed("invert_robust", reached(0.02, 0.05, 0.06)) is True
    assert claimed("invert_robust", reached(0.11, 0.12, 0.13)) is False
    assert claimed("invert_robust", reached(0.02, 0.02, 0.2)) is None
    assert claimed("invert_robust", reached(0.02, 0.02)) is None


def test_the_best_prior_is_what_the_robust_model_must_equal() -> None:
    rows = {f"visualisation/standard, {v}": {"neighbours": [20.0, 30.0, 40.0]} for v in VARIANTS}
    rows["visualisation/standard, waves"] = {"neighbours": [60.0, 70.0, 80.0]}
    rows["visualisation/robust, no prior"] = {"neighbours": [60.5, 70.5, 80.5]}
    assert claimed("needs_no_prior", seen(**rows)) is True
    rows["visualisation/robust, no prior"] = {"neighbours": [59.5, 69.5, 79.5]}
    assert claimed("needs_no_prior", seen(**rows)) is False
    assert claimed("visual_recognised", seen(**rows)) is True
    one = {k: {"neighbours": v["neighbours"][:2]} for k, v in rows.items()}
    assert claimed("visual_recognised", seen(**one)) is None  # no spread to be outside of


def test_a_checkerboard_must_be_there_to_be_stronger() -> None:
    def boards(uneven, resize):
        return seen(
            **{
                "downsampling/generator, uneven": {"picture_board": uneven},
                "downsampling/generator, resize": {"picture_board": resize},
            }
        )

    assert claimed("resize_convolution", boards([5.0, 6.0, 5.5], [1.0, 1.2, 1.1])) is True
    assert claimed("resize_convolution", boards([0.5, 0.6, 0.7], [0.3] * 3)) is False  # none at all
    assert claimed("resize_convolution", boards([1.1, 9.0, 5.0], [1.2] * 3)) is None
    assert claimed("resize_convolution", boards([5.0] * 2, [1.0] * 2)) is None


def test_a_seed_without_a_number_decides_nothing() -> None:
    rows = {"inversion/robust, from noise": {"relative_error": [0.05, 0.05, float("nan")]}}
    assert claimed("invert_robust", seen(**rows)) is None
    rows = {
        "gradients/robust": {"high_frequencies": [10.0, 10.0, float("nan")]},
        "gradients/standard": {"high_frequencies": [20.0] * 3},
    }
    assert claimed("gradient_smooth", seen(**rows)) is None


def test_too_few_images_are_refused_before_any_work() -> None:
    looks = engstrom_config("digits", "smoke")
    small = replace(looks, models=replace(looks.models, test_size=5))
    with pytest.raises(ValueError, match=r"`test images` must be at least 8, .*; got 5"):
        graph(small, Where())
    few = replace(looks, models=replace(looks.models, train_size=60))
    with pytest.raises(ValueError, match="`training images` must hold at least 10 of every class"):
        graph(few, Where())


def test_bad_settings() -> None:
    looks = engstrom_config("digits", "smoke")
    with pytest.raises(ValueError, match="`targets` must be at least 8"):
        replace(looks, targets=4)
    with pytest.raises(ValueError, match="`inversion_rule` must be lbfgs or steepest"):
        replace(looks, inversion_rule="adam")
    with pytest.raises(ValueError, match="Unknown preset"):
        engstrom_config("digits", "huge")
