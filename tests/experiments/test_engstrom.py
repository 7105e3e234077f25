"""The experiment on representations in miniature, and its claims on numbers that are known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.data.safefile import read_tensors
from notbugs.experiments import ilyas2019
from notbugs.experiments.engstrom2019 import CLAIMS, EXPERIMENT, config_for, models, rows
from notbugs.experiments.numbers import Numbers
from notbugs.experiments.representation_stages import VARIANTS
from notbugs.experiments.rules import decided
from notbugs.experiments.running import Machine, run
from notbugs.models import load as load_model
from notbugs.models.prior_files import load_prior
from notbugs.store import SilentObserver, Store


def smoke(folder: Path, **changes):
    config = replace(config_for("digits", "smoke"), **changes)
    store, observer = Store(folder / "store"), SilentObserver()
    return run(EXPERIMENT, config, store, out=folder, machine=Machine(), observer=observer)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("representations")
    return folder, smoke(folder)


def test_every_table_has_its_rows(finished_run) -> None:
    tables = finished_run[1]["tables"]
    assert list(tables["inversion"]) == [
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
    for row in tables["inversion"].values():
        assert 0 < row["relative_error"][0] < row["start_error"][0]
        assert -1 <= row["ssim"][0] <= 1
        assert row["lpips"][0] >= 0
    for row in tables["visualisation"].values():
        assert all(0 <= row[c][0] <= 100 for c in ("judge", "neighbours", "high_frequencies"))


def test_files_lie_there_and_the_numbers_can_be_made_again_from_the_pictures(finished_run) -> None:
    folder, _ = finished_run
    for name in ("standard", "robust", "judge"):
        model, facts = load_model(folder / "models" / f"{name}-seed0.safetensors")
        assert (model.classes, facts["dataset"]) == (10, "digits")
    for name in ("denoiser", "generator"):
        assert load_prior(folder / "priors" / f"{name}-seed0.safetensors").shape == (1, 8, 8)
    pictures, _ = read_tensors(folder / "pictures.safetensors", what="data")
    made, target = pictures["inversion/noise/robust"], pictures["inversion/targets"]
    robust, _ = load_model(folder / "models" / "robust-seed0.safetensors")
    with torch.no_grad():
        a, b = robust.eval().embed(made), robust.embed(target)
        start = robust.embed(pictures["inversion/noise/start"])
    assert bool(((a - b).norm(dim=1) < (start - b).norm(dim=1)).all())


def test_models_are_those_of_the_main_experiment() -> None:
    theirs = ilyas2019.config_for("digits", "smoke")
    ours = vars(models(config_for("digits", "smoke"), 0))
    assert list(ours) == ["standard", "robust", "judge"]
    for role, model in ours.items():
        assert model.key == ilyas2019.source(theirs, 0, role).key


def test_the_first_way_of_halving_maps_is_the_standard_model() -> None:
    config = config_for("digits", "smoke")
    compared = next(row.stage for row in rows(config, 0) if "down" in row.stage.kind)
    keys = [model.key for _, model in compared.classifiers]
    assert keys[0] == models(config, 0).standard.key
    assert len(set(keys)) == 3


def test_priors_do_not_depend_on_the_classifiers() -> None:
    config = config_for("digits", "smoke")
    other = replace(config, net=replace(config.net, options=()), visual_steps=9)
    priors = [
        {key for key, (_, file) in EXPERIMENT.files(c).items() if file.startswith("prior")}
        for c in (config, other)
    ]
    for name in priors[0]:
        assert EXPERIMENT.files(config)[name][0].key == EXPERIMENT.files(other)[name][0].key


def seen(**rows) -> Numbers:
    """Numbers by "table/row" with columns of seeds."""
    tables = {}
    for place, columns in rows.items():
        table, row = place.split("/")
        tables.setdefault(table, {})[row] = columns
    return Numbers(tables)


def claimed(name, numbers):
    return decided(CLAIMS, numbers)[name].holds


def test_a_gain_must_exceed_two_standard_errors_in_every_seed() -> None:
    def gains(column, values, errors):
        standard = [0.3] * len(values)
        return seen(
            **{
                "gain/robust - standard, from noise": {f"{column}_error": errors},
                "inversion/robust, from noise": {column: [0.3 + gain for gain in values]},
                "inversion/standard, from noise": {column: standard},
            }
        )

    for column, sign in (("ssim", 1), ("lpips", -1)):
        up, down = [sign * 0.2, sign * 0.3, sign * 0.25], [-sign * 0.2] * 3
        assert claimed(f"nearer_{column}", gains(column, up, [0.05] * 3)) is True
        assert claimed(f"nearer_{column}", gains(column, up, [0.05, 0.05, 0.15])) is False
        assert claimed(f"nearer_{column}", gains(column, down, [0.05] * 3)) is False
        assert claimed(f"nearer_{column}", gains(column, up[:2], [0.05] * 2)) is None
        assert claimed(f"nearer_{column}", seen()) is None


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
    del rows["visualisation/standard, waves"]
    assert claimed("needs_no_prior", seen(**rows)) is None


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


def test_what_is_to_be_less_is_less_in_paired_seeds() -> None:
    def shares(robust, standard):
        return seen(
            **{
                "gradients/robust": {"high_frequencies": robust},
                "gradients/standard": {"high_frequencies": standard},
            }
        )

    assert claimed("gradient_smooth", shares([10.0, 11.0, 12.0], [20.0] * 3)) is True
    assert claimed("gradient_smooth", shares([30.0, 31.0, 32.0], [20.0] * 3)) is False
    assert claimed("gradient_smooth", shares([20.0] * 3, [20.0] * 3)) is False
    decision = decided(CLAIMS, shares([10.0] * 3, [20.0] * 3))["gradient_smooth"]
    assert (decision.ours, decision.control) == ((10.0,) * 3, (20.0,) * 3)


def test_a_seed_without_a_number_decides_nothing() -> None:
    rows = {"inversion/robust, from noise": {"relative_error": [0.05, 0.05, float("nan")]}}
    assert claimed("invert_robust", seen(**rows)) is None
    rows = {
        "gradients/robust": {"high_frequencies": [10.0, 10.0, None]},
        "gradients/standard": {"high_frequencies": [20.0] * 3},
    }
    assert claimed("gradient_smooth", seen(**rows)) is None


def test_too_few_images_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`test images` must be at least 8, .*; got 5"):
        smoke(tmp_path, test_size=5)
    with pytest.raises(ValueError, match="`training images` must hold at least 10 of every class"):
        smoke(tmp_path, train_size=60)
    assert not any((tmp_path / "store").rglob("*.safetensors"))


def test_bad_settings() -> None:
    config = config_for("digits", "smoke")
    with pytest.raises(ValueError, match="`targets` must be at least 8"):
        replace(config, targets=4)
    with pytest.raises(ValueError, match="`inversion_rule` must be lbfgs or steepest"):
        replace(config, inversion_rule="adam")
    with pytest.raises(ValueError, match="Unknown preset"):
        config_for("digits", "huge")
