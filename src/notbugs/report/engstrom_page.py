"""The page of a run of engstrom2019, the experiment on representations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from notbugs.experiments.engstrom.outcome import RESULTS, SAMPLES
from notbugs.experiments.engstrom.settings import engstrom_config
from notbugs.report import content, figures
from notbugs.report.command import Reproduction, engstrom_reproduction
from notbugs.report.figures import DARK, LIGHT, Theme
from notbugs.report.figures import picture_rows as drawings
from notbugs.report.formatting import any_number, verdict
from notbugs.report.reading import Arrays, checked, read_samples
from notbugs.report.rendering import embedded, template, write_page
from notbugs.report.schemas import EngstromResult

EXPERIMENT = "engstrom2019"
HEADS = {
    "relative_error": "Match error",
    "start_error": "… at the start",
    "ssim": "SSIM",
    "ssim_before": "… at the start",
    "lpips": "LPIPS",
    "lpips_before": "… at the start",
    "distance": "L2",
    "pixel_unevenness": "Unevenness, pixels",
    "representation_unevenness": "Unevenness, representation",
    "unnatural": "Unnatural",
    "judge": "Judge agrees %",
    "neighbours": "Neighbours agree %",
    "rise": "Logit, in spreads",
    "high_frequencies": "High frequencies %",
    "weight": "Weight",
    "missed": "Missed",
    "moved": "L2 moved",
    "alone": "Rise alone",
    "added": "Rise on images",
    "seen_alone": "Visible alone",
    "seen_added": "Visible on images",
    "clean": "Clean %",
    "even": "Even overlap",
    "zero": "Zero gradients %",
    "ssim_error": "… error",
    "lpips_error": "… error",
    "distance_error": "… error",
    "gradient_board": "Checkerboard, gradients",
    "picture_board": "Checkerboard, pictures",
    "activation": "Activation, made",
    "most_of_real": "… of the best real image",
}
SKIPPED = ("distance_before",)


@dataclass(frozen=True)
class Part:
    """A section of the page: text, figures with captions, tables with explanations."""

    title: str
    text: str
    captions: Mapping[str, tuple[str, str]]
    tables: Mapping[str, tuple[str, str]]
    alt: str


PARTS = (
    Part(
        "Inversion",
        "The search changes pixels until the representation is that of a test image that it never "
        "sees. It begins at noise, or at an image of another class.",
        {
            "inversion": (
                "Targets, and images that each model cannot distinguish from them.",
                "Where the found image still looks like its start, the representation does not "
                "fix what a person sees.",
            )
        },
        {
            "inversion": (
                "Model and start",
                "Match error: distance of representations relative to the target's. SSIM (1 is "
                "equal), LPIPS (0 is equal, by the third model's activations) and L2: distance of "
                "pictures to the target.",
            ),
            "gain": (
                "Difference",
                "Robust minus standard, each image's own difference; error: the standard error "
                "over images, by which the claims on inversion are decided.",
            ),
        },
        "Rows of target images, starts and inversions for both models.",
    ),
    Part(
        "Interpolation",
        "Frames whose representations lie evenly on the line between those of two images, "
        "beside the plain mixture of their pixels.",
        {
            "paths": (
                "Interpolations between two images.",
                "Mixed pixels show two ghosts at once.",
            )
        },
        {
            "interpolation": (
                "Way",
                "Unevenness: longest step over the mean step (1 is even). Unnatural: how far a "
                "denoiser would move the frames, root mean square of a pixel.",
            )
        },
        "Rows of frames between pairs of images.",
    ),
    Part(
        "Visualisation, and whether it needs a prior",
        "From noise, pixels are changed to make a class as likely as possible: without any prior, "
        "and with six that favour natural images. The weight of a prior is the one of six at "
        "which the third model and the neighbours recognise the most, chosen for each model "
        "separately.",
        {
            "visualisations": (
                "Images that maximise the logit of each class.",
                "One column a class.",
            ),
            "units": (
                "Coordinates of the embedding.",
                "One column a coordinate: the image made for it without a prior, and test images "
                "that activate it most and least. One that is silent at the start has no gradient "
                "there, and its image stays noise.",
            ),
        },
        {
            "visualisation": (
                "Model and prior",
                "Judge and neighbours: how many pictures the third model, and a vote of the ten "
                "most similar training images, take for the class. Logit: what was maximised, in "
                "standard deviations over images. High frequencies: energy above a quarter of a "
                "cycle a pixel. Unnatural: how far a denoiser would move the picture.",
            ),
            "units": ("Embedding", "High frequencies of what was made for each coordinate."),
        },
        "Rows of visualisations for both models and each prior.",
    ),
    Part(
        "Manipulation",
        "For each class the coordinate that best tells its training images from the others is "
        "looked up, and images of other classes are changed until it has risen by a multiple of "
        "the difference between the groups.",
        {
            "pushes": (
                "One feature taken away, and added.",
                "One row a class.",
            )
        },
        {
            "manipulation": (
                "Model and strength",
                "Missed: what is left of the rise that was asked for. Judge and neighbours: how "
                "many images are then taken for the class.",
            )
        },
        "Rows of images with a feature added at growing strength, for both models.",
    ),
    Part(
        "Artefacts",
        "Where the energy of gradients lies, whether patterns repeat with the strides of a net, "
        "and what high frequencies alone do.",
        {
            "spectra": ("Spectra of input gradients.", "Beside that of images."),
            "artefacts": (
                "Patterns, gradients and generated images.",
                "A checkerboard repeats every second pixel.",
            ),
        },
        {
            "gradients": (
                "Gradients",
                "board_p: power of waves that repeat every p pixels over that of their neighbours "
                "(1: no checkerboard).",
            ),
            "patterns": (
                "Pattern",
                "Rise of the class's logit in standard deviations over images, of the pattern on "
                "grey and on images; visible: 1 - SSIM of grey, and of images, with and without.",
            ),
            "downsampling": (
                "Net",
                "Even overlap: every place is read equally often. Checkerboard of period 2, of "
                "input gradients and of pictures.",
            ),
        },
        "Line plot of spectra; rows of patterns, gradients and generated images.",
    ),
)


def write_engstrom_report(folder: Path) -> Path:
    """Writes `folder/report.html` and `folder/figures/*.png` from the run's results.

    **Raises** DataError where the folder holds no results of this experiment; StoreError where it
    cannot be written.
    """
    result = checked(EngstromResult, folder / RESULTS)
    pictures = read_samples(folder / SAMPLES)
    light = _draw(result, pictures, LIGHT)
    return write_page(folder, render(result, light, _draw(result, pictures, DARK)), light)


def render(result: Mapping[str, Any], light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """The page as text, with the pictures of both colour schemes inside."""
    conditions = result["conditions"]
    config = conditions["config"]
    return template("engstrom.html.j2").render(
        title=result["dataset"],
        claims=[claim(c) for c in result["claims"]],
        counts=content.counts(result["claims"]),
        seeds=config["models"]["seeds"],
        conditions=_conditions(result),
        parts=[_part(part, result["tables"]) for part in PARTS],
        pictures={n: {"light": embedded(light[n]), "dark": embedded(dark[n])} for n in light},
        again=_again(config),
        settings=json.dumps(config, indent=1, ensure_ascii=False),
        versions=result.get("versions"),
        digest=str(conditions["data_digest"]),
    )


def claim(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of claims; numbers of any unit."""
    return {
        "statement": row["statement"],
        "published": row["published"],
        "ours": any_number(row["ours"], row["std"]),
        "control": any_number(row["control"]),
        "rule": row.get("rule", ""),
        "verdict": verdict(row["holds"], row["seeds"]),
    }


def table(rows: Sequence[Mapping[str, Any]], title: str, help: str) -> dict[str, Any]:
    """A table of results.json as the page shows it; columns without a number are left out."""
    names = dict.fromkeys(k for row in rows for k in row)
    hidden = {"row", "seeds", *SKIPPED}
    shown = [
        n
        for n in names
        if n not in hidden and not n.endswith("_std") and any(r.get(n) is not None for r in rows)
    ]
    return {
        "title": title,
        "help": help,
        "columns": [HEADS.get(n, n) for n in shown],
        "rows": [
            {
                "name": row["row"],
                "seeds": row["seeds"],
                "cells": [any_number(row.get(n), row.get(f"{n}_std")) for n in shown],
            }
            for row in rows
        ],
    }


def _part(part: Part, tables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": part.title,
        "text": part.text,
        "alt": part.alt,
        "figures": list(part.captions),
        "caption": part.captions,
        "tables": [table(tables[n], *words) for n, words in part.tables.items() if n in tables],
    }


def _draw(result: Mapping[str, Any], pictures: Arrays, theme: Theme) -> dict[str, bytes]:
    classes = result["conditions"]["classes"]
    images: dict[str, bytes] = {}
    for name, draw in drawings.DRAWN.items():
        more = {"classes": classes} if name == "pushes" else {}
        images[name] = figures.png(draw(pictures, theme, **more), 110)
    return images


def _conditions(result: Mapping[str, Any]) -> dict[str, str]:
    conditions = result["conditions"]
    config, images = conditions["config"], conditions["images"]
    robust = config["models"]["robust"]["adversary"]
    return {
        "Dataset": f"{result['dataset']} ({conditions['data']})",
        "Images": f"{images['train']:,} to train, {images['val']:,} held out, "
        f"{images['test']:,} to test",
        "Models": f"{config['models']['architecture']}; the robust one trained at "
        f"{robust['threat']}",
        "Inverted": f"the first {config['targets']} test images, {config['inversion_steps']} steps "
        f"({config['inversion_rule']})",
        "Visualised": f"every class from {config['copies']} starts, {config['visual_steps']} steps",
        "Preset": str(result["preset"]),
        **content.machine_and_time(result),
    }


def _again(config: Mapping[str, Any]) -> Reproduction:
    usual = json.loads(
        json.dumps(asdict(engstrom_config(config["models"]["data"], config["models"]["preset"])))
    )
    return engstrom_reproduction(EXPERIMENT, config, usual)
