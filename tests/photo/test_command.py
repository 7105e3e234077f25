"""`notbugs photo` end to end, on digits."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from notbugs.cli import main
from notbugs.photo import Camera, open_sheet, page_pixels, photograph


def call(*arguments) -> None:
    main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A trained model, attacked digits, their sheet, and photographs of it."""
    folder = tmp_path_factory.mktemp("photo")
    model, clean = folder / "model", folder / "clean.safetensors"
    call("train", "--out", model, "--train-size", 500, "--epochs", 10)
    call("data", "export", "digits", "--to", clean)
    attack = ("attack", model, "--data", clean, "--count", 12, "--method", "fgsm")
    for name, eps in (("weak", 0.05), ("strong", 0.3)):
        save = folder / f"{name}.safetensors"
        call(*attack, "--threat", f"linf:{eps}", "--save", save)
    sets = (folder / "weak.safetensors", folder / "strong.safetensors")
    call("photo", "sheet", clean, *sets, "--out", folder / "sheet", "--count", 10)
    sheet, data = open_sheet(folder / "sheet")
    for page in range(sheet.pages):
        pixels = page_pixels(sheet, data, page, 60)
        photo, _ = photograph(pixels, Camera(roll=5, tilt=15, blur=0.5, quality=90))
        Image.fromarray(photo).save(folder / f"page{page}.jpg", quality=90)
    return folder


def test_the_sheet_pairs_clean_and_adversarial_images(folder) -> None:
    sheet, _ = open_sheet(folder / "sheet")
    assert [(c.original, c.kind) for c in sheet.cells[:4]] == [
        *((0, "clean"), (0, "weak"), (0, "strong"), (1, "clean"))
    ]
    assert len(sheet.cells) == 30
    assert (folder / "sheet" / "sheet.pdf").read_bytes().startswith(b"%PDF")


def test_photographs_are_judged(folder, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--sheet", folder / "sheet", "--model", folder / "model")
    photos, numbers = sorted(folder.glob("page*.jpg")), tmp_path / "numbers.json"
    call("photo", "read", *photos, *given, "--json", numbers)
    said = capsys.readouterr().out
    assert "page1.jpg: page 2, 15 images, 8 marks; error" in said
    assert "Accuracy, %, and destruction rate" in said
    found = json.loads(numbers.read_text())
    assert [one["page"] for one in found["photographs"]] == [1, 2]
    assert found["clean"]["n"] == 10
    strong = found["adversarial"]["strong"]
    assert found["clean"]["accuracy"] >= 80
    assert found["clean"]["accuracy_photographed"] >= 70
    assert strong["accuracy"] < found["clean"]["accuracy"]
    assert strong["successful"] >= strong["successful_prefiltered"]
    assert 0 <= strong["destruction_rate"] <= 100
    assert strong["accuracy_photographed_ci95"][0] <= strong["accuracy_photographed"]
    call("photo", "read", photos[0], *given, "--json", numbers)  # its own file is replaced
    assert json.loads(numbers.read_text())["clean"]["n"] == 5


def test_a_photograph_that_cannot_be_read_is_left_out(
    folder, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--sheet", folder / "sheet", "--model", folder / "model")
    dark, numbers = tmp_path / "dark.png", tmp_path / "numbers.json"
    Image.new("RGB", (400, 300)).save(dark)
    call("photo", "read", dark, folder / "page0.jpg", *given, "--json", numbers)
    assert "Left out: The photograph" in capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert "dark.png" in found["photographs"][0]["left_out"]
    assert found["clean"]["n"] == 5
    with pytest.raises(SystemExit):
        call("photo", "read", dark, dark, *given)
    assert "None of the photographs can be read" in capsys.readouterr().err


def test_a_video_is_watched(folder, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = np.asarray(Image.open(folder / "page0.jpg"))[..., ::-1]
    video = tmp_path / "page.avi"
    size = (photo.shape[1], photo.shape[0])
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, size)
    for frame in (np.full_like(photo, 90), photo):
        writer.write(frame)
    writer.release()
    given = ("--sheet", folder / "sheet", "--model", folder / "model")
    call("photo", "watch", *given, "--video", video)
    said = capsys.readouterr().out
    assert "Page 1" in said
    assert "strong" in said
    assert " %," in said
    assert "2 frames." in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sheet {f}/clean.safetensors --out {t}/s", "be at least one set"),
        ("sheet {f}/clean.safetensors {f}/weak.safetensors --out {f}/sheet", "not empty"),
        ("sheet {f}/weak.safetensors {f}/strong.safetensors --out {t}/s", "made from others"),
        ("sheet {f}/clean.safetensors {f}/weak.safetensors --out {t} --paper a5", "Unknown paper"),
        ("read {f}/clean.json {given}", "is not a sound image"),
        ("read {f}/page0.jpg --sheet {f} --model {f}/model", "that `notbugs photo sheet` wrote"),
        ("read {f}/page0.jpg {given} --json {f}/page0.jpg", "differ from"),
        ("watch {given} --video {t}/none.avi", "is not there"),
        ("watch {given} --video {f}/clean.json", "No picture can be read"),
        ("look", "Unknown action of photo 'look'"),
    ],
)  # fmt: skip
def test_bad_calls_are_refused(
    folder, tmp_path, arguments, message, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f"--sheet {folder}/sheet --model {folder}/model"
    with pytest.raises(SystemExit) as caught:
        call("photo", *arguments.format(given=given, f=folder, t=tmp_path).split())
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


@pytest.mark.parametrize("action", ["sheet", "read", "watch"])
def test_help_has_an_example(action, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call("photo", action, "--help")
    assert caught.value.code == 0
    assert f"notbugs photo {action}" in capsys.readouterr().out
