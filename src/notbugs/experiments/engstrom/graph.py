"""The stage graph of the experiment on representations: models, priors and measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from notbugs.core.errors import bad_value
from notbugs.data import Splits, split
from notbugs.experiments.engstrom import artefacts, measurements, stage_io
from notbugs.experiments.engstrom.settings import EngstromConfig
from notbugs.experiments.plan import Planner, Where
from notbugs.models.cnn import DOWN
from notbugs.models.upsampling import UPSAMPLES
from notbugs.store import Stage

FEWEST_PER_CLASS = 10
VERSIONS = {"visualise": 3, "measure artefacts": 2, "compare downsampling": 2}
"""Versions by a measurement's label, default 1; raised whenever a measurement changes what it
computes, so that stored results are computed again."""


@dataclass(frozen=True)
class Graph:
    """All stages of a run, and facts about its data.

    - `measurements`: one mapping a seed, from a measurement's name to its stage
    - `models`: one mapping a seed, from "standard", "robust", "judge" to its stage
    - `priors`: one mapping a seed, from "denoiser", "generator" to its stage
    """

    measurements: tuple[Mapping[str, Stage], ...]
    models: tuple[Mapping[str, Stage], ...]
    priors: tuple[Mapping[str, Stage], ...]
    title: str
    digest: str
    images: Mapping[str, int]
    classes: tuple[str, ...]

    @property
    def targets(self) -> list[Stage]:
        """The stages whose results are read or copied to the output folder."""
        parts = (*self.measurements, *self.models, *self.priors)
        return [stage for seed in parts for stage in seed.values()]


class _GraphBuilder:
    def __init__(self, settings: EngstromConfig, where: Where) -> None:
        self.settings, self.where = settings, where
        self.planner = Planner(settings.models, where)

    def stage(
        self,
        label: str,
        producer: Any,
        seed: int,
        inputs: dict[str, Stage],
        cost: float,
        **own: Any,
    ) -> Stage:
        stage = self.planner.stage(
            "look", f"{label} · seed {seed}", producer, cost, inputs, seed=seed, **own
        )
        return replace(stage, version=VERSIONS.get(label, 1))

    def prior(self, role: str, seed: int, upsample: str = "resize") -> Stage:
        s = self.settings
        label = role if upsample == "resize" else f"{role} ({upsample})"
        own: dict[str, Any] = {} if role == "denoiser" else {"upsample": upsample}
        return self.stage(
            f"train {label}",
            stage_io.train_prior,
            seed,
            {},
            self.planner.n * s.prior_epochs * 3.0,
            role=role,
            epochs=s.prior_epochs,
            width=s.prior_width,
            **own,
        )

    def priors(self, seed: int) -> dict[str, Stage]:
        """The denoiser and the generator."""
        return {role: self.prior(role, seed) for role in ("denoiser", "generator")}

    def models(self, seed: int) -> dict[str, Stage]:
        """The main experiment's models, and a judge with other initial weights."""
        s, make = self.settings.models, self.planner.model
        return {
            "standard": make("standard", seed, s.standard),
            "robust": make("robust", seed, s.robust),
            "judge": make("judge", seed, s.standard),
        }

    def halved(self, seed: int) -> dict[str, Stage]:
        """Standard models with other downsampling, where the architecture has options for it."""
        s = self.settings.models
        if s.architecture != "cnn":
            return {}
        stages: dict[str, Stage] = {}
        for down in DOWN:
            # The default passes no option, so that its key is that of the standard model.
            options = {} if down == "stride" else {"down": down}
            planner = Planner(replace(s, options={**s.options, **options}), self.where)
            stage = planner.model("standard", seed, s.standard)
            stages[f"down {down}"] = replace(stage, label=f"train standard ({down}) · seed {seed}")
        return stages

    def measurements(self, seed: int, models: dict[str, Stage]) -> dict[str, Stage]:
        s = self.settings
        denoiser, generator = self.prior("denoiser", seed), self.prior("generator", seed)
        ups = {f"up {u}": self.prior("generator", seed, u) for u in UPSAMPLES[1:]}
        solver = {
            "inversion_steps": s.inversion_steps,
            "inversion_rule": s.inversion_rule,
            "inversion_step_size": s.inversion_step_size,
        }
        visual = {"visual_steps": s.visual_steps}
        classes = self.planner.source.train.classes
        step = 6.0  # forward and backward of a few hundred images
        return {
            "inversion": self.stage(
                "invert", measurements.measure_inversion, seed, models,
                s.targets * s.inversion_steps * 4 * step, targets=s.targets, **solver,
            ),
            "interpolation": self.stage(
                "interpolate", measurements.measure_interpolation, seed,
                {**models, "denoiser": denoiser},
                s.pairs * s.points * s.inversion_steps * 2 * step,
                pairs=s.pairs, points=s.points, **solver,
            ),
            "visualisation": self.stage(
                "visualise", measurements.measure_visualisation, seed,
                {**models, "denoiser": denoiser, "generator": generator},
                classes * s.copies * s.visual_steps * 36 * step,
                copies=s.copies, units=s.units, **visual,
            ),
            "manipulation": self.stage(
                "manipulate", measurements.measure_manipulation, seed, models,
                classes * s.pushed * s.inversion_steps * 8 * step, pushed=s.pushed, **solver,
            ),
            "artefacts": self.stage(
                "measure artefacts", artefacts.measure_artefacts, seed, models,
                classes * s.visual_steps * 2 * step, **visual,
            ),
            "downsampling": self.stage(
                "compare downsampling", artefacts.measure_downsampling, seed,
                {**self.halved(seed), "judge": models["judge"], "generator": generator, **ups},
                classes * s.visual_steps * 3 * step, **visual,
            ),
        }  # fmt: skip


def graph(settings: EngstromConfig, where: Where) -> Graph:
    """The whole graph of a run, before anything is computed."""
    builder = _GraphBuilder(settings, where)
    source, sizes = builder.planner.source, settings.models
    parts = [
        split(source, seed=seed, train_size=sizes.train_size, test_size=sizes.test_size)
        for seed in range(settings.seeds)
    ]
    _check_sizes(settings, parts)
    models = tuple(builder.models(seed) for seed in range(settings.seeds))
    first = parts[0]
    return Graph(
        measurements=tuple(
            builder.measurements(seed, models[seed]) for seed in range(settings.seeds)
        ),
        models=models,
        priors=tuple(builder.priors(seed) for seed in range(settings.seeds)),
        title=source.title,
        digest=source.train.digest,
        images={"train": len(first.train), "val": len(first.val), "test": len(first.test)},
        classes=source.train.class_names,
    )


def _check_sizes(settings: EngstromConfig, parts: Sequence[Splits]) -> None:
    """Refuses data with too few images for the measurements."""
    needed = max(settings.targets, 2 * settings.pairs)
    fewest = min(len(p.test) for p in parts)
    if fewest < needed:
        raise bad_value(
            "test images",
            f"be at least {needed}, for {settings.targets} inversions and {settings.pairs} pairs",
            fewest,
            "Take a larger test part, or smaller `targets` and `pairs`.",
        )
    for p in parts:
        counts = torch.bincount(p.train.labels, minlength=p.train.classes)
        if int(counts.min()) < FEWEST_PER_CLASS:
            rare = p.train.class_names[int(counts.argmin())]
            raise bad_value(
                "training images",
                f"hold at least {FEWEST_PER_CLASS} of every class, for its feature and neighbours",
                f"{int(counts.min())} of '{rare}'",
            )
