"""`notbugs look` end to end on a small trained model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.cli import main
from notbugs.data import load_source, split
from notbugs.data.safefile import read_tensors
from notbugs.models.denoiser import Denoiser
from notbugs.models.prior_files import save_prior
from notbugs.training import train_denoiser, train_generator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("look")
    arguments = ("--recipe", "pgd", "--epochs", "4", "--train-size", "300")
    main(["train", *arguments, "--out", str(folder / "run")])
    return folder / "run" / "model.safetensors"


def look(tmp_path: Path, weights, *arguments):
    out = tmp_path / "look.png"
    files = ("--out", out, "--json", tmp_path / "look.json", "--save", tmp_path / "x.safetensors")
    main(["look", *map(str, (weights, *arguments, *files, "--steps", 20))])
    numbers = json.loads((tmp_path / "look.json").read_text())
    with Image.open(out) as picture:
        size = picture.size
    return size, numbers, read_tensors(tmp_path / "x.safetensors", what="data")[0]


def test_all_ways_at_once(tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]) -> None:
    ways = ("--invert", "--interpolate", "--visualise", "--manipulate")
    size, numbers, found = look(
        tmp_path, trained, *ways, "--image", 0, 3, "--units", 1, 2, 5, "--toward", 4, "--points", 4
    )
    assert min(size) > 500
    assert found["inverted"].shape == (2, 1, 8, 8)
    assert found["interpolated"].shape == (1, 4, 1, 8, 8)
    assert found["visualised"].shape == (3, 1, 8, 8)
    assert found["manipulated"].shape == (2, 4, 1, 8, 8)
    assert max(numbers["inversion"]["relative_error"]) < 0.5
    assert numbers["visualisation"]["units"] == [1, 2, 5]
    assert numbers["images"] == ["0", "3"]
    assert len(numbers["manipulation"]["strengths"]["+1"]["after"]) == 2
    said = capsys.readouterr().out
    for word in ("Inversion:", "Interpolation:", "Visualisation:", "Manipulation:", "Picture:"):
        assert word in said


def test_a_contact_sheet_holds_every_unit(tmp_path: Path, trained) -> None:
    few, _, _ = look(tmp_path, trained, "--visualise")
    size, numbers, found = look(tmp_path, trained, "--visualise", "--all-units")
    assert numbers["visualisation"]["units"] == list(range(64))
    assert found["visualised"].shape == (64, 1, 8, 8)
    assert size[0] == few[0]
    assert size[1] > 5 * few[1]  # six rows of twelve where there was one


def test_a_picture_file_is_taken_and_resampled_with_a_note(
    tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]
) -> None:
    test = split(load_source("digits"), seed=0, train_size=300).test
    exact = (test.pixels()[0, 0].numpy() * 255).round().astype(np.uint8)
    Image.fromarray(exact).save(tmp_path / "same.png")
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "photo.png")
    _, numbers, _ = look(
        tmp_path, trained, "--invert", "--image", tmp_path / "same.png", tmp_path / "photo.png"
    )
    said = capsys.readouterr().out
    assert len(numbers["inversion"]["ssim"]) == 2
    assert "photo.png' was resampled from 20 x 30 to 8 x 8" in said
    assert "same.png' was" not in said


def test_priors_change_what_is_found(tmp_path: Path, trained) -> None:
    data = split(load_source("digits"), seed=0, train_size=300).train
    save_prior(train_denoiser(data, epochs=1, width=4, seed=0), tmp_path / "d.safetensors")
    save_prior(train_generator(data, epochs=1, width=4, seed=0), tmp_path / "g.safetensors")
    common = ("--visualise", "--layer", "logits", "--units", 0, 1)
    _, plain, without = look(tmp_path, trained, *common)
    assert plain["visualisation"]["priors"] == []
    for name, flags in {
        "total variation": ("--total-variation", 5),
        "frequency weights": ("--frequency-penalty", 5),
        "random moves": ("--moves",),
        "denoiser": ("--denoiser", tmp_path / "d.safetensors", "--denoising", 5),
        "generator": ("--generator", tmp_path / "g.safetensors"),
    }.items():
        _, numbers, found = look(tmp_path, trained, *common, *flags)
        assert numbers["visualisation"]["priors"] == [name]
        assert not found["visualised"].equal(without["visualised"])
    with pytest.raises(SystemExit):
        look(tmp_path, trained, *common, "--denoiser", tmp_path / "g.safetensors")


def test_methods_write_images_in_their_own_way(tmp_path: Path, trained) -> None:
    common = ("--visualise", "--layer", "logits", "--units", 0, 1)
    size, pixels, plain = look(tmp_path, trained, *common)
    found = [plain["visualised"]]
    for method, rows in (("fourier", 3), ("maco", 4)):
        its_size, numbers, images = look(tmp_path, trained, *common, "--method", method)
        seen = numbers["visualisation"]
        assert seen["method"] == method
        assert seen["dead"] == [False, False]
        assert seen["priors"] == (["random moves"] if method == "maco" else [])
        assert (its_size[1] > size[1]) == (rows == 4)  # one more, of opacities
        assert not any(images["visualised"].equal(other) for other in found)
        found.append(images["visualised"])
    assert pixels["visualisation"]["method"] == "pixels"
    spectra = [torch.fft.fft2(torch.logit(x.double()), norm="ortho").abs() for x in found]
    apart = [(a[0] - a[1]).abs().max() for a in spectra]
    assert float(apart[2]) < 1e-3 < float(apart[1])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((), "--invert, --interpolate, --visualise, --manipulate` must be given"),
        (("--manipulate",), "--unit and --toward` must be one given"),
        (("--manipulate", "--unit", 1, "--toward", 2), "must be one given, the other not"),
        (("--manipulate", "--toward", 10), "--toward` must lie in 0..9"),
        (("--manipulate", "--unit", 999), "must lie in 0..63"),
        (("--invert", "--image", 99999), "--image` must lie in 0.."),
        (("--invert", "--image", "nothing.png"), "Cannot read the picture 'nothing.png'"),
        (("--invert", "--layer", "nowhere"), "nowhere"),
        (("--invert", "--denoising", 1), "--denoising` must come with --denoiser"),
        (("--interpolate", "--image", 1, 2, 3), "name an even number of images"),
        (("--interpolate", "--points", 2), "--points` must be at least 3"),
        (("--invert", "--start", "black"), "Unknown start 'black'"),
        (("--invert", "--toward", 3), "--toward` must be left out"),
        (("--invert", "--units", 3), "--units` must be left out"),
        (("--visualise", "--units", 3, "--all-units"), "--units` must be left out"),
        (("--interpolate", "--total-variation", 3), "a prior` must be left out"),
        (("--invert", "--save", "x.pt"), "--save` must end in .safetensors"),
        (("--visualise", "--units", 64), "must lie in 0..63"),
        (("--invert", "--steps", 0), "--steps` must be at least 1"),
        (("--invert", "--method", "maco"), "--method` must be left out"),
        (("--visualise", "--method", "mako"), "Unknown method 'mako'. Did you mean 'maco'"),
        (("--visualise", "--method", "maco", "--start", "grey"), "grey has no phases"),
        (
            ("--visualise", "--method", "fourier", "--generator", "g.safetensors"),
            "--method` must be left out with --generator",
        ),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, trained, capsys: pytest.CaptureFixture[str], wrong, words
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["look", str(trained), *map(str, wrong), "--out", str(tmp_path / "x.png")])
    assert error.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_what_is_read_is_not_written_over(
    tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, picture = tmp_path / "m.safetensors", tmp_path / "photo.png"
    weights.write_bytes(trained.read_bytes())
    Image.new("L", (8, 8), 90).save(picture)
    before = weights.read_bytes(), picture.read_bytes()
    for files in (
        ("--save", weights, "--out", tmp_path / "x.png"),
        ("--image", picture, "--out", picture),
    ):
        with pytest.raises(SystemExit):
            main(["look", str(weights), "--invert", *map(str, files)])
        assert "must differ from the files that are read" in capsys.readouterr().err
    assert (weights.read_bytes(), picture.read_bytes()) == before


def test_a_prior_for_other_images_is_refused(
    tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.safetensors"
    save_prior(Denoiser((3, 8, 8), width=4, seed=0), path)
    with pytest.raises(SystemExit):
        look(tmp_path, trained, "--invert", "--denoiser", path)
    assert "be made for images of shape (1, 8, 8)" in capsys.readouterr().err


def test_inversion_bears_random_moves(tmp_path: Path, trained) -> None:
    _, numbers, _ = look(tmp_path, trained, "--invert", "--moves", "--image", 0, 1, 2)
    assert max(numbers["inversion"]["relative_error"]) < 1


def test_what_is_done_to_a_picture_is_said(
    tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]
) -> None:
    deep, clear, wide = tmp_path / "deep.png", tmp_path / "clear.png", tmp_path / "wide.tiff"
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(deep)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(clear)
    Image.new("F", (8, 8)).save(wide)
    look(tmp_path, trained, "--invert", "--image", deep, clear)
    said = " ".join(capsys.readouterr().out.split())
    assert "deep.png' was converted from 16-bit grey to grey" in said
    assert "clear.png' was laid on white" in said
    with pytest.raises(SystemExit):
        look(tmp_path, trained, "--invert", "--image", wide)
    assert "has the colour mode F" in capsys.readouterr().err


def test_only_a_png_is_drawn(tmp_path: Path, trained, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["look", str(trained), "--invert", "--out", str(tmp_path / "x.pdf")])
    assert "--out` must end in .png" in capsys.readouterr().err
