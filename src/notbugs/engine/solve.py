"""The solver: the optimisation loop that all gradient attacks share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, RowTree
from notbugs.engine.evaluators import (
    AbstractEvaluator,
    Confirmed,
    Point,
    evaluated,
    evaluator_of,
    follows_from_outputs,
)
from notbugs.engine.keep import AbstractKeep, Kept, SuccessThenLowest
from notbugs.engine.objective import AbstractObjective
from notbugs.engine.parameterize import AbstractParameterization, Pixels
from notbugs.engine.record import BlockRecord, Record, is_small
from notbugs.engine.rules import AbstractStepRule, StepInfo
from notbugs.engine.sets import AbstractSet
from notbugs.engine.solution import Solution, after, resumed
from notbugs.engine.start import AbstractStart, AtCenter, FromImages
from notbugs.engine.state import State
from notbugs.engine.stop import AbstractStop, Never, OnSuccess
from notbugs.engine.trace import Observer, on_rows

DROP_WHEN_FINISHED = 0.125
"""Share of finished rows at which they are dropped from the batch."""


@dataclass(frozen=True)
class Solver:
    """A recipe to minimise an objective over a set, without tensors or models.

    Solves, for every row i separately: minimise objective(x_i) subject to x_i in
    `within`(center_i), by `max_steps` steps of `rule`. A budget of T steps costs T
    gradient evaluations and one final evaluation. Finished rows no longer change, and are
    dropped from the batch once there are enough of them.
    """

    within: AbstractSet
    rule: AbstractStepRule[Any]
    max_steps: int
    parameterization: AbstractParameterization = Pixels()  # noqa: RUF009 (frozen, stateless)
    keep: AbstractKeep = SuccessThenLowest()  # noqa: RUF009
    stop: AbstractStop = Never()  # noqa: RUF009
    before: "Solver | None" = None
    """A solver to run first, on the same objective; this one starts at its best points."""

    def __post_init__(self) -> None:
        check_count(self.max_steps, "max_steps")
        if self.within.is_bounded and not self.parameterization.in_pixels:
            raise bad_value(
                "within",
                "be Everywhere() unless the parameterisation is Pixels()",
                repr(self.within),
                "The decoder enforces the box.",
            )

    @property
    def total_steps(self) -> int:
        """The budget, including that of the solvers before this one."""
        return self.max_steps + (0 if self.before is None else self.before.total_steps)

    def minimise(
        self,
        objective: AbstractObjective,
        center: Images,
        context: RowTree | None = None,
        *,
        keys: Tensor,
        start: AbstractStart = AtCenter(),  # noqa: B008 (frozen, stateless)
        exact: AbstractObjective | None = None,
        observe: Observer | None = None,
    ) -> Solution:
        """The solution: the best point of each row of `center`, and its cost.

        - `center` [n, ...]: the points the set is built around
        - `context`: per-row tensors for the objective (labels, targets, embeddings)
        - `keys` [n]: one random key per row (`notbugs.core.random.row_keys`)
        - `exact`: an objective that confirms each success and gives the final value
        - `observe`: called with a `StepInfo` before each step, and at the end if rows are
          still active (`step` is `max_steps` then, without a gradient). Its values are those
          by which points are compared. `Trace` is one.

        Neither `center` nor `context` is changed.
        """
        if self.before is not None:
            # Not observed: its points and successes may lie outside this solver's set.
            first = self.before.minimise(objective, center, context, keys=keys, start=start)
            last = replace(self, before=None).minimise(
                objective,
                center,
                context,
                keys=random.fold(keys, "after"),
                start=FromImages(first.x),
                exact=exact,
                observe=observe,
            )
            return after(first, last)
        if keys.shape != center.shape[:1]:
            raise bad_value("keys", f"have shape ({center.shape[0]},)", tuple(keys.shape))
        if objective.is_random and self.rule.needs.same_values:
            raise bad_value(
                "rule",
                "support values that are drawn again at each step, as this objective's are",
                type(self.rule).__name__,
                "It compares steps with each other; use Steepest, Momentum or Adam.",
            )
        with torch.no_grad():
            state = self._begin(center, context, keys, start)
            solution = self._solve(objective, exact, state, observe)
            if exact is None:
                return solution
            solution, refuted = _verified(solution, exact, context, keys.to(center.device))
        if not len(refuted):
            return solution
        continued = self._resuming().minimise(
            exact,
            center[refuted],
            rows.select(None if context is None else dict(context), refuted),
            keys=keys[refuted.to(keys.device)],
            start=FromImages(solution.x[refuted]),
            observe=on_rows(observe, refuted),
        )
        return resumed(solution, continued, refuted)

    def _resuming(self) -> "Solver":
        """The solver that continues rows whose success the exact objective refuted.

        It has the same budget. It stops at a success if this solver has no stop of its own and
        does not look for the nearest success.
        """
        stop_on_success = self.stop.never and not self.keep.confirms
        return replace(self, stop=OnSuccess()) if stop_on_success else self

    def _begin(
        self, center: Images, context: RowTree | None, keys: Keys, start: AbstractStart
    ) -> State:
        n, center = len(center), center.detach()
        first = self.within.project(start(center, self.within, keys), center)
        count = torch.zeros(n, dtype=torch.int64, device=center.device)
        return State(
            place=torch.arange(n, device=center.device),
            theta=self.parameterization.encode(first),
            center=center,
            context=None if context is None else dict(context),
            keys=keys.to(center.device),
            kept=None,
            rule=None,
            stop=None,
            steps=count,
            zero_grads=count,
            done=None if self.stop.never else torch.zeros_like(count, dtype=torch.bool),
        )

    def _solve(
        self,
        objective: AbstractObjective,
        exact: AbstractObjective | None,
        state: State,
        observe: Observer | None,
    ) -> Solution:
        """The result of all steps and a final evaluation."""
        run = _Run.of(self, objective, exact, state, observe)
        for step in range(self.max_steps):
            if not state.place.shape[0]:
                break
            state = run.step(state, step)
        return run.ended(state)


@dataclass
class _Run:
    """A solve in progress."""

    solver: Solver
    evaluator: AbstractEvaluator
    record: Record
    observe: Observer | None
    project: Callable[[Tensor], Tensor]
    finished: list[State]

    @classmethod
    def of(
        cls,
        solver: Solver,
        objective: AbstractObjective,
        exact: AbstractObjective | None,
        state: State,
        observe: Observer | None,
    ) -> "_Run":
        """A run with the cheapest evaluator and record that this solve allows."""
        needs, decode = solver.rule.needs, solver.parameterization.decode
        record = Record(solver.keep)
        needed_each_step = observe is not None or not solver.stop.never or solver.keep.confirms
        deferrable = is_small(state.theta) and not (needed_each_step or needs.success)
        if deferrable and follows_from_outputs(objective, needs):
            record = BlockRecord(solver.keep, objective, solver.max_steps)
        evaluator = evaluator_of(objective, decode, needs, deferred=record.defers)
        if exact is not None and solver.keep.confirms:
            evaluator = Confirmed(evaluator, exact, solver.keep)
        return cls(solver, evaluator, record, observe, solver.within.around(state.center), [])

    def step(self, state: State, step: int) -> State:
        """Evaluates, records and observes the points, drops finished rows, and takes a step."""
        point = self.evaluator.step(state, step)
        state = self.record.see(state, point)
        info = self._info(state, point, step)
        self._notify(info, point)
        rule, stop = self.solver.rule, self.solver.stop
        if step == 0:
            state = state._replace(rule=rule.init(state.theta, info), stop=stop.init(info))
        if state.done is not None:
            stopped, memory = stop.update(info, state.stop)
            state = state._replace(done=state.done | stopped, stop=memory)
            active = self._drop_finished(state)
            if active is not None:
                state, point = rows.select((state, point), active)
                info = self._info(state, point, step)
        if not state.place.shape[0]:
            return state
        theta, memory = rule.step(state.theta, info, state.rule)
        theta = self.project(theta)
        if state.done is not None:
            theta = rows.where(state.done, state.theta, theta)
        return self.record.count(state._replace(theta=theta, rule=memory), point)

    def ended(self, state: State) -> Solution:
        """The solution, after a final evaluation of the active rows."""
        if len(state.place):
            point = self.evaluator.last(state)
            state = self.record.see(state, point)
            self._notify(self._info(state, point, self.solver.max_steps), point)
        passes = self.evaluator.passes
        return _solution([*self.finished, state], passes.forwards, passes.backwards)

    def _drop_finished(self, state: State) -> Tensor | None:
        """The active rows if enough others have finished to be dropped, else None."""
        assert state.done is not None
        # A Jacobian costs a backward pass per output, so finished rows are dropped at once.
        share = 0.0 if self.solver.rule.needs.jacobian else DROP_WHEN_FINISHED
        if int(state.done.sum()) < share * len(state.place):
            return None
        finished, active = state.done.nonzero()[:, 0], (~state.done).nonzero()[:, 0]
        if not len(finished):
            return None
        self.finished.append(rows.select(state, finished))
        self.project = self.solver.within.around(state.center[active])
        return active

    def _notify(self, info: StepInfo, point: Point) -> None:
        if self.observe is not None:
            self.observe(replace(info, value=point.score))

    def _info(self, state: State, point: Point, step: int) -> StepInfo:
        return StepInfo(
            step=step,
            max_steps=self.solver.max_steps,
            value=point.value,
            grad=point.grad,
            success=point.success,
            center=state.center,
            keys=state.keys,
            project=self.project,
            outputs=point.outputs,
            jacobian=point.jacobian,
            gap=point.gap,
            place=state.place,
        )


def _solution(parts: list[State], forwards: int, backwards: int) -> Solution:
    """The kept points of all rows, in the order of the batch."""
    # The last part has no rows and no kept points if every row has finished.
    parts = [part for part in parts if part.kept is not None]
    order = torch.cat([part.place for part in parts]).argsort()

    def joined(*columns: Tensor) -> Tensor:
        return torch.cat(columns)[order]

    columns = zip(*(part.kept for part in parts if part.kept is not None), strict=True)
    kept = Kept(*(joined(*column) for column in columns))
    steps = joined(*(part.steps for part in parts))
    done = joined(*(torch.zeros_like(p.place) > 0 if p.done is None else p.done for p in parts))
    return Solution(
        x=kept.x,
        value=kept.value,
        success=kept.success,
        gave_up=done & ~kept.success,
        steps=steps,
        zero_grads=joined(*(part.zero_grads for part in parts)),
        forwards=forwards,
        backwards=backwards,
    )


def _verified(
    solution: Solution, exact: AbstractObjective, context: RowTree | None, keys: Keys
) -> tuple[Solution, Tensor]:
    """(the solution with the exact objective's values, the rows whose success it refutes)."""
    evaluation = evaluated(exact, solution.x, None if context is None else dict(context), keys)
    success = solution.success if evaluation.success is None else evaluation.success
    forwards = solution.forwards + len(solution.x)
    refuted = (solution.success & ~success).nonzero()[:, 0]
    return replace(solution, value=evaluation.value, success=success, forwards=forwards), refuted
