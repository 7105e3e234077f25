"""The stage graph of the main experiment: models, constructed sets and evaluations."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from notbugs.data import load_source
from notbugs.engine import Threat
from notbugs.engine.threat import exact
from notbugs.experiments import stages
from notbugs.experiments.config import Config
from notbugs.features import TARGET_KINDS
from notbugs.store import Stage
from notbugs.training import Recipe, recipe_as_json

VERSION = 5
"""Raised whenever a producer changes what it computes: results are then computed again."""


@dataclass(frozen=True)
class Where:
    """Settings that do not change a result: the data folder and the device."""

    data_dir: str | None = None
    device: str = "cpu"

    @property
    def settings(self) -> dict[str, str | None]:
        """The settings as stages carry them."""
        return {"data_dir": self.data_dir, "device": self.device}


@dataclass(frozen=True)
class TrainedSet:
    """One row of the table for one seed: the set, the model trained on it, its evaluation."""

    set: str
    eps: float | None
    seed: int
    data: Stage | None
    model: Stage
    numbers: Stage

    @property
    def file_name(self) -> str:
        """The file name without a suffix: `D_det-eps2-seed0`."""
        radius = "" if self.eps is None else f"-eps{exact(self.eps)}"
        return f"{self.set.replace(':', '-')}{radius}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All stages of a run, and the facts about its data."""

    rows: tuple[TrainedSet, ...]
    samples: Stage
    title: str
    digest: str
    images: Mapping[str, int]
    classes: tuple[str, ...]

    @property
    def targets(self) -> list[Stage]:
        """The stages whose results are read or copied to the output folder."""
        parts = [stage for row in self.rows for stage in (row.numbers, row.model, row.data)]
        return [stage for stage in parts if stage is not None] + [self.samples]


class Planner:
    """Builds the graph of one configuration."""

    def __init__(self, config: Config, where: Where) -> None:
        self.config, self.where = config, where
        self.source = load_source(
            config.data, None if where.data_dir is None else Path(where.data_dir)
        )
        self.data = {
            "name": config.data,
            "digest": stages.digest_of(self.source),
            "train_size": config.train_size,
            "test_size": config.test_size,
        }
        n = len(self.source.train)
        self.n = n if config.train_size is None else config.train_size

    def stage(
        self,
        kind: str,
        label: str,
        producer: Any,
        cost: float,
        inputs: dict[str, Stage],
        **own: Any,
    ) -> Stage:
        network = {"architecture": self.config.architecture, "options": dict(self.config.options)}
        config = {"data": self.data, **network, **own}
        return Stage(
            kind=kind,
            label=label,
            producer=producer,
            version=VERSION,
            config=config,
            inputs=inputs,
            settings=self.where.settings,
            cost=cost,
        )

    def model(self, role: str, seed: int, recipe: Recipe, data: Stage | None = None) -> Stage:
        inner = 2.0 * recipe.adversary.passes if recipe.adversary else 0.0
        return self.stage(
            "model",
            f"train {role} · seed {seed}",
            stages.train_model,
            self.n * recipe.epochs * (3 + inner),
            {} if data is None else {"data": data},
            seed=seed,
            role=role,
            recipe=recipe_as_json(recipe),
        )

    def numbers(self, name: str, seed: int, model: Stage, data: Stage | None) -> Stage:
        inputs = {"model": model} if data is None else {"model": model, "data": data}
        size = self.config.test_size or (
            len(self.source.test) if self.source.test is not None else self.n
        )
        return self.stage(
            "numbers",
            f"evaluate {name} · seed {seed}",
            stages.measure,
            size * self.config.eval_steps * 2 * 3,
            inputs,
            seed=seed,
            threat=str(self.threat(self.config.eps_eval)),
            steps=self.config.eval_steps,
            batch_size=self.config.batch_size,
        )

    def threat(self, eps: float) -> Threat:
        return Threat.parse(f"{self.config.norm}:{eps!r}")

    def inverted(self, name: str, seed: int, source: Stage) -> Stage:
        return self.stage(
            "dataset",
            f"build {name} · seed {seed}",
            stages.build_inverted,
            self.n * self.config.inversion.steps * 3,
            {"source": source},
            seed=seed,
            name=name,
            inversion=asdict(self.config.inversion),
            batch_size=self.config.batch_size,
            precision=self.config.precision,
        )

    def targeted(self, kind: str, eps: float, seed: int, source: Stage) -> Stage:
        return self.stage(
            "dataset",
            f"build D_{kind} ε={exact(eps)} · seed {seed}",
            stages.build_targeted,
            self.n * self.config.push_steps * 3,
            {"source": source},
            seed=seed,
            target_kind=kind,
            threat=f"{self.config.norm}:{eps!r}",
            steps=self.config.push_steps,
            step_size=self.config.push_step_size,
            batch_size=self.config.batch_size,
            precision=self.config.precision,
        )

    def control(self, kind: str, eps: float, seed: int) -> Stage:
        # The network does not matter here, but one shape of configuration serves all stages.
        return self.stage(
            "dataset",
            f"build leak:D_{kind} ε={exact(eps)} · seed {seed}",
            stages.build_control,
            self.n,
            {},
            seed=seed,
            target_kind=kind,
            threat=f"{self.config.norm}:{eps!r}",
        )

    def student(self, name: str, eps: float | None, seed: int, data: Stage) -> TrainedSet:
        # One role for all students of a seed: they start from the same weights and order.
        label = name if eps is None else f"{name} ε={exact(eps)}"
        model = self.model("student", seed, self.config.student, data)
        model = _relabelled(model, f"train on {label} · seed {seed}")
        return TrainedSet(name, eps, seed, data, model, self.numbers(label, seed, model, data))

    def rows_of(self, seed: int) -> list[TrainedSet]:
        config = self.config
        standard = self.model("standard", seed, config.standard)
        robust = self.model("robust", seed, config.robust)
        rows = [
            TrainedSet("D", None, seed, None, standard, self.numbers("D", seed, standard, None)),
            TrainedSet(
                "D_adv", None, seed, None, robust, self.numbers("D_adv", seed, robust, None)
            ),
        ]
        for name, source in (("D_R", robust), ("D_NR", standard)):
            rows.append(self.student(name, None, seed, self.inverted(name, seed, source)))
        for eps in config.eps_sets:
            for kind in TARGET_KINDS:
                targeted = self.targeted(kind, eps, seed, standard)
                rows.append(self.student(f"D_{kind}", eps, seed, targeted))
                leak = self.control(kind, eps, seed)
                rows.append(self.student(f"leak:D_{kind}", eps, seed, leak))
        return rows

    def samples(self, rows: list[TrainedSet]) -> Stage:
        """Pictures from seed 0, of the sets at their largest radius."""
        largest = max(self.config.eps_sets)
        shown = {r.set: r for r in rows if r.seed == 0 and r.eps in (None, largest)}
        sets = {name: r.data for name, r in shown.items() if r.data is not None}
        models = {"standard": shown["D"].model, "robust": shown["D_adv"].model}
        return self.stage(
            "samples",
            "pick pictures for the report",
            stages.pick_samples,
            float(self.n),
            {**sets, **models},
            seed=0,
            sets=sorted(sets),
            count=8,
            threat=str(self.threat(self.config.eps_eval)),
            steps=self.config.eval_steps,
        )


def _relabelled(stage: Stage, label: str) -> Stage:
    return replace(stage, label=label)


def plan(config: Config, where: Where) -> Plan:
    """The whole graph of a run, before anything is computed."""
    planner = Planner(config, where)
    rows = [row for seed in range(config.seeds) for row in planner.rows_of(seed)]
    first = stages.splits(
        config.data,
        stages.digest_of(planner.source),
        where.data_dir,
        0,
        config.train_size,
        config.test_size,
    )
    return Plan(
        rows=tuple(rows),
        samples=planner.samples(rows),
        title=planner.source.title,
        digest=planner.source.train.digest,
        images={"train": len(first.train), "val": len(first.val), "test": len(first.test)},
        classes=planner.source.train.class_names,
    )
