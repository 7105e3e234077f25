"""The one loop: change an input, inside a set, to lower an objective."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count
from notbugs.core.memory import keep_freed_memory
from notbugs.core.types import Images, Keys, Mask, Rows, RowTree
from notbugs.engine import blocks
from notbugs.engine.keep import AbstractKeep, Kept, SuccessThenLowest
from notbugs.engine.objective import AbstractObjective, Draw, Evaluation, OfOutputs
from notbugs.engine.parameterize import AbstractParameterization, Pixels
from notbugs.engine.rules import AbstractStepRule, StepInfo, given
from notbugs.engine.sets import AbstractSet, Everywhere
from notbugs.engine.solution import Solution, Status, after, joined
from notbugs.engine.start import AbstractStart, AtCenter, FromImages
from notbugs.engine.stop import AbstractStop, Never, OnSuccess
from notbugs.engine.trace import Observer, on_rows

Derivative: TypeAlias = Callable[[Tensor], Tensor]
DROP_WHEN_FINISHED = 0.125
"""Share of finished rows at which the batch is cut to the rows still at work."""


class _Rows(NamedTuple):
    """Everything that belongs to a row at work, cut and merged together."""

    place: Tensor
    theta: Tensor
    center: Images
    context: Any
    keys: Keys
    kept: Kept | None
    rule: Any
    stop: Any
    steps: Tensor
    zero_grads: Tensor
    done: Mask


@dataclass
class _Work:
    """A solve in progress: what to evaluate, and how often it was."""

    objective: AbstractObjective
    exact: AbstractObjective | None
    decode: Callable[[Tensor], Images]
    project: Callable[[Tensor], Tensor]
    forwards: int = 0
    backwards: int = 0
    finished: list[_Rows] = field(default_factory=list[_Rows])
    known: "tuple[Any, Derivative | None] | None" = None
    """The derivative of the value by the outputs, for the context that it was made for."""

    def look(self, theta: Tensor, at: _Rows, *names: object) -> Evaluation:
        """The objective without a gradient, counted."""
        self.forwards += theta.shape[0]
        with torch.no_grad():
            draw = Draw(random.fold(at.keys, *names))
            return self.objective(self.decode(theta), at.context, draw)

    def slope(self, at: _Rows, step: int, rule: AbstractStepRule[Any]) -> "_Slope":
        """The objective at the current variables with the gradients that the rule needs.

        That of each row's value, or those of all its outputs, at one backward pass each.
        """
        derivative = self.derivative(at, rule)
        if derivative is not None:
            assert isinstance(self.objective, OfOutputs)
            slope = self.slope_of_outputs(at, self.objective, derivative)
            success = self.objective.success_of(given(slope.found.outputs), at.context)
            return slope._replace(found=slope.found._replace(success=success))
        theta = at.theta.detach().requires_grad_()
        draw = Draw(random.fold(at.keys, "step", step) if self.objective.is_random else at.keys)
        with torch.enable_grad():
            x = self.decode(theta)
            found = self.objective(x, at.context, draw)
            grad, each = None, None
            if rule.needs_grad:
                # As the gradient of the sum, two operations shorter.
                one = torch.ones_like(found.value)
                kept = rule.needs_jacobian
                (grad,) = torch.autograd.grad(found.value, theta, one, retain_graph=kept)
                self.backwards += theta.shape[0]
            if rule.needs_jacobian:
                each = _jacobian(found.outputs, theta)
                self.backwards += theta.shape[0] * each.shape[1]
        self.forwards += theta.shape[0]
        return _Slope(x.detach(), _detached(found), grad, each)

    def derivative(self, at: _Rows, rule: AbstractStepRule[Any]) -> "Derivative | None":
        """The value's derivative by the outputs where it is known and is all that is needed.

        As for steps in blocks, so that both give the same points to the last bit.
        """
        objective = self.objective
        if not isinstance(objective, OfOutputs) or not rule.needs_grad or rule.needs_jacobian:
            return None
        if objective.is_random or type(objective).__call__ is not OfOutputs.__call__:
            return None  # there is more to it than value and success
        if self.known is None or self.known[0] is not at.context:  # rows were cut
            self.known = at.context, objective.slope_of(at.context)
        return self.known[1]

    def slope_of_outputs(
        self,
        at: _Rows,
        objective: OfOutputs,
        derivative: "Derivative | None",
        unknown: Rows | None = None,
    ) -> "_Slope":
        """The outputs at the current variables with the gradient of each row's value.

        With the `derivative` of the value by the outputs, autograd sees the model alone; the
        value itself stays `unknown` where that is given.
        """
        theta = at.theta.detach().requires_grad_()
        with torch.enable_grad():
            x = self.decode(theta)
            outputs = objective.outputs_of(x)
            value = None if derivative else objective.value_of(outputs, at.context)
        seen = outputs.detach()
        if value is not None:
            (grad,) = torch.autograd.grad(value, theta, torch.ones_like(value))
        else:
            assert derivative is not None
            (grad,) = torch.autograd.grad(outputs, theta, derivative(seen))
            value = objective.value_of(seen, at.context) if unknown is None else unknown
        self.forwards += theta.shape[0]
        self.backwards += theta.shape[0]
        return _Slope(x.detach(), Evaluation(_in_float32(value.detach()), None, seen), grad)

    def confirmed(self, x: Images, found: Evaluation, at: _Rows, solver: "Solver") -> Mask:
        """Success, asked of the exact objective where `keep` wants each success confirmed."""
        if found.success is None:
            return torch.zeros_like(at.done)
        if self.exact is None or not solver.keep.confirms:
            return found.success  # the kept points are asked at the end, all at once
        wanted = found.success & ~at.done
        if at.kept is not None:
            new = Kept(x, found.value, found.success)
            wanted = wanted & solver.keep.better(new, at.kept, at.center)
        claimed = wanted.nonzero()[:, 0]
        if not len(claimed):
            return found.success
        part = rows.select(at, claimed)
        self.forwards += len(claimed)
        with torch.no_grad():
            truth = self.exact(x[claimed], part.context, Draw(random.fold(part.keys, "fixed")))
        success = found.success.clone()
        success[claimed] = truth.success if truth.success is not None else False
        return success


class _Slope(NamedTuple):
    """What one gradient evaluation gives."""

    x: Images
    found: Evaluation
    grad: Tensor | None = None
    jacobian: Tensor | None = None


def _jacobian(outputs: Tensor | None, theta: Tensor) -> Tensor:
    if outputs is None:
        raise RuntimeError("This rule needs an objective with outputs, and it gave none.")
    last = outputs.shape[1] - 1
    return torch.stack(
        [
            torch.autograd.grad(outputs[:, k].sum(), theta, retain_graph=k < last)[0]
            for k in range(last + 1)
        ],
        dim=1,
    )


def _probe(work: _Work, at: _Rows, step: int, theta: Tensor) -> Evaluation:
    """An evaluation that a rule asks for between steps."""
    return work.look(theta, at, "probe", step)


def _detached(found: Evaluation) -> Evaluation:
    outputs = None if found.outputs is None else found.outputs.detach()
    return found._replace(value=_in_float32(found.value.detach()), outputs=outputs)


def _in_float32(value: Rows) -> Rows:
    """Values in at least float32."""
    return value.float() if value.itemsize < 4 else value


@dataclass(frozen=True)
class Solver:
    """A recipe to minimise an objective over a set: no tensors and no models in it.

    Solves, for every row i on its own: minimise objective(x_i) subject to x_i in
    `within`(center_i), by `max_steps` steps of `rule`. A budget of T steps costs T
    gradient evaluations and one final evaluation. Finished rows freeze at once and are
    dropped from the batch when enough of them are done.
    """

    within: AbstractSet
    rule: AbstractStepRule[Any]
    max_steps: int
    parameterization: AbstractParameterization = Pixels()  # noqa: RUF009 (frozen, stateless)
    keep: AbstractKeep = SuccessThenLowest()  # noqa: RUF009
    stop: AbstractStop = Never()  # noqa: RUF009
    before: "Solver | None" = None
    """Solved first, by the same objective; this one then starts at its best points."""

    def __post_init__(self) -> None:
        """Refuses an empty budget, and a set that a parameterisation cannot honour."""
        check_count(self.max_steps, "max_steps")
        pixels = isinstance(self.parameterization, Pixels)
        if not pixels and not isinstance(self.within, Everywhere):
            raise bad_value(
                "within",
                "be Everywhere() unless the parameterisation is Pixels()",
                repr(self.within),
                "The decoder enforces the box.",
            )

    @property
    def total_steps(self) -> int:
        """The budget, with that of the solvers before this one."""
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
        """The best point found for each row of `center`.

        - `center` [n, ...]: the points the set is built around
        - `context`: per-row tensors for the objective (labels, targets, embeddings)
        - `keys` [n]: one random key a row (`notbugs.core.random.row_keys`)
        - `exact`: an objective asked to confirm each success and to give the final value
        - `observe`: called with a `StepInfo` at every step, before it is taken, and once
          more at the end (`step` is `max_steps` then, without a gradient) while rows are
          at work. Its values are those by which points are judged. `Trace` is one.

        Neither `center` nor `context` is changed.
        """
        if self.before is not None:
            # Not observed: its points need not lie in the set, nor its successes.
            first = self.before.minimise(objective, center, context, keys=keys, start=start)
            found = replace(self, before=None).minimise(
                objective,
                center,
                context,
                keys=random.fold(keys, "after"),
                start=FromImages(first.x),
                exact=exact,
                observe=observe,
            )
            return after(first, found)
        keep_freed_memory()
        if keys.shape != center.shape[:1]:
            raise bad_value("keys", f"have shape ({center.shape[0]},)", tuple(keys.shape))
        if objective.is_random and not self.rule.bears_noise:
            raise bad_value(
                "rule",
                "bear values that are drawn anew at each step, as this objective's are",
                type(self.rule).__name__,
                "It compares steps with each other; use Steepest, Momentum or Adam.",
            )
        with torch.no_grad():
            at = self._begin(center, context, keys, start)
            around = self.within.around(at.center)
            work = _Work(objective, exact, self.parameterization.decode, around)
            if observe is None and isinstance(objective, OfOutputs) and self._in_blocks(at):
                at = self._steps_in_blocks(work, objective, at)
            else:
                for step in range(self.max_steps):
                    if not len(at.place):
                        break
                    at = self._step(work, at, step, observe)
            at = self._look_last(work, at, observe)
            found = self._solution(work, [*work.finished, at])
            if exact is None:
                return found
            found, refuted = self._exactly(work, exact, found, center, context, keys)
        if not bool(refuted.any()):
            return found
        # Fast successes that the exact objective does not share: these rows go on with it
        # from where they are, for at most the same budget; where nothing else would stop
        # them, and a success need not be the nearest, until they succeed.
        left = refuted.nonzero()[:, 0]
        rest = rows.select(None if context is None else dict(context), left)
        halt = self.stop.never and not self.keep.confirms
        onwards = replace(self, stop=OnSuccess()) if halt else self
        again = onwards.minimise(
            exact,
            center[left],
            rest,
            keys=keys[left.to(keys.device)],
            start=FromImages(found.x[left]),
            observe=on_rows(observe, left),
        )
        return joined(found, again, left)

    def _begin(
        self,
        center: Images,
        context: RowTree | None,
        keys: Keys,
        start: AbstractStart,
    ) -> _Rows:
        n = center.shape[0]
        center = center.detach()
        first = self.within.project(start(center, self.within, keys), center)
        count = torch.zeros(n, dtype=torch.int64, device=center.device)
        return _Rows(
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
            done=torch.zeros(n, dtype=torch.bool, device=center.device),
        )

    def _step(
        self,
        work: _Work,
        at: _Rows,
        step: int,
        observe: Observer | None,
    ) -> _Rows:
        slope = self._evaluate(work, at, step)
        at, judged, success = self._record(work, at, slope.x, slope.found)
        info = self._info(work, at, step, slope, success)
        if observe is not None:
            observe(replace(info, value=judged.value))
        if step == 0:
            at = at._replace(
                rule=self.rule.init(at.theta, info),
                stop=None if self.stop.never else self.stop.init(info),
            )
        at, info = self._freeze(work, at, info)
        return self._advance(at, info) if len(at.place) else at

    def _info(self, work: _Work, at: _Rows, step: int, slope: _Slope, success: Mask) -> StepInfo:
        return StepInfo(
            step=step,
            max_steps=self.max_steps,
            value=slope.found.value,
            grad=slope.grad,
            success=success,
            center=at.center,
            keys=at.keys,
            project=work.project,
            evaluate=partial(_probe, work, at, step),
            outputs=slope.found.outputs,
            jacobian=slope.jacobian,
            place=at.place,
            gap=slope.found.gap,
        )

    def _in_blocks(self, at: _Rows) -> bool:
        """Whether nothing on the way asks for success, so that it can be entered later."""
        return (
            self.stop.never
            and isinstance(self.keep, SuccessThenLowest)
            and self.rule.needs_grad
            and not (self.rule.needs_success or self.rule.needs_jacobian)
            and blocks.pays(at.theta)
        )

    def _steps_in_blocks(self, work: _Work, objective: OfOutputs, at: _Rows) -> _Rows:
        """All steps; what was seen is entered block by block, with the same result."""
        block, none = blocks.Block(work.decode(at.theta), self.max_steps), at.done
        derivative, unknown = work.derivative(at, self.rule), None
        if derivative is not None and not self.rule.needs_value:
            unknown = torch.full(none.shape, float("nan"), dtype=at.theta.dtype, device=none.device)
        for step in range(self.max_steps):
            slope = work.slope_of_outputs(at, objective, derivative, unknown)
            block.add(slope.x, given(slope.found.outputs), given(slope.grad))
            info = self._info(work, at, step, slope, none)
            rule = at.rule if step else self.rule.init(at.theta, info)
            theta, rule = self.rule.step(at.theta, info, rule)
            at = at._replace(theta=work.project(theta), rule=rule)
            if block.full or step + 1 == self.max_steps:
                at = self._enter(objective, at, block)
        return at

    def _enter(self, objective: OfOutputs, at: _Rows, block: blocks.Block) -> _Rows:
        """Enters what the steps of a block have seen, and empties it."""
        b, n = len(block), len(at.place)
        points, outputs, zero = block.taken()
        every = torch.arange(n, device=at.place.device).repeat(b)
        context = rows.select(at.context, every)
        value = _in_float32(objective.value_of(outputs, context)).reshape(b, n)
        success = objective.success_of(outputs, context).reshape(b, n)
        new = blocks.best(points, value, success)
        return at._replace(
            kept=self.keep.update(new, at.kept, at.center),
            steps=at.steps + b,
            zero_grads=at.zero_grads + zero.sum(dim=0),
        )

    def _evaluate(self, work: _Work, at: _Rows, step: int) -> _Slope:
        if self.rule.differentiates:
            return work.slope(at, step, self.rule)
        return _Slope(work.decode(at.theta), _detached(work.look(at.theta, at, "step", step)))

    def _record(
        self, work: _Work, at: _Rows, x: Images, found: Evaluation
    ) -> tuple[_Rows, Evaluation, Mask]:
        """Lets `keep` see the point; a random objective is judged by its fixed draw."""
        judged = work.look(at.theta, at, "fixed") if work.objective.is_random else found
        success = work.confirmed(x, judged, at, self)
        kept = self.keep.update(Kept(x, judged.value, success), at.kept, at.center)
        if at.kept is not None and not self.stop.never:
            kept = rows.merge(at.done, at.kept, kept)
        return at._replace(kept=kept), judged, success

    def _freeze(self, work: _Work, at: _Rows, info: StepInfo) -> tuple[_Rows, StepInfo]:
        """Marks finished rows, and cuts them off when there are enough of them."""
        if self.stop.never:
            return at, info
        stopped, state = self.stop.update(info, at.stop)
        at = at._replace(done=at.done | stopped, stop=state)
        # Where every step takes a backward pass an output, no finished row is worth one.
        enough = 0.0 if self.rule.needs_jacobian else DROP_WHEN_FINISHED
        if int(at.done.sum()) < enough * len(at.place):
            return at, info
        gone, left = at.done.nonzero()[:, 0], (~at.done).nonzero()[:, 0]
        if not len(gone):
            return at, info
        work.finished.append(rows.select(at, gone))
        at = rows.select(at, left)
        work.project = self.within.around(at.center)
        info = replace(
            info,
            value=info.value[left],
            grad=rows.select(info.grad, left),
            success=info.success[left],
            center=at.center,
            keys=at.keys,
            project=work.project,
            evaluate=partial(_probe, work, at, info.step),
            outputs=rows.select(info.outputs, left),
            gap=rows.select(info.gap, left),
            jacobian=rows.select(info.jacobian, left),
            place=at.place,
        )
        return at, info

    def _advance(self, at: _Rows, info: StepInfo) -> _Rows:
        theta, state = self.rule.step(at.theta, info, at.rule)
        theta = info.project(theta)
        slopes = info.jacobian if info.grad is None else info.grad
        flat = None if slopes is None else blocks.all_zero(slopes)
        moved: Tensor | int = 1
        if not self.stop.never:
            moved = ~at.done
            theta, flat = rows.where(moved, theta, at.theta), None if flat is None else flat & moved
        zero = at.zero_grads if flat is None else at.zero_grads + flat
        return at._replace(theta=theta, rule=state, steps=at.steps + moved, zero_grads=zero)

    def _look_last(self, work: _Work, at: _Rows, observe: Observer | None) -> _Rows:
        if not len(at.place):
            return at
        found, x = _detached(work.look(at.theta, at, "fixed")), work.decode(at.theta)
        at, judged, success = self._record(work, at, x, found)
        if observe is not None:
            observe(self._info(work, at, self.max_steps, _Slope(x, judged), success))
        return at

    def _solution(self, work: _Work, parts: list[_Rows]) -> Solution:
        parts = [part for part in parts if part.kept is not None]
        order = torch.cat([part.place for part in parts]).argsort()
        kept = Kept(*(_joined([part.kept for part in parts], i, order) for i in range(3)))
        done = torch.cat([part.done for part in parts])[order]
        status = torch.where(done, Status.STOPPED, Status.MAX_STEPS)
        return Solution(
            x=kept.x,
            value=kept.value,
            success=kept.success,
            status=torch.where(kept.value.isfinite(), status, Status.NOT_FINITE),
            steps=torch.cat([part.steps for part in parts])[order],
            zero_grads=torch.cat([part.zero_grads for part in parts])[order],
            forwards=work.forwards,
            backwards=work.backwards,
        )

    def _exactly(
        self,
        work: _Work,
        exact: AbstractObjective,
        found: Solution,
        center: Images,
        context: RowTree | None,
        keys: Keys,
    ) -> tuple[Solution, Mask]:
        """(the solution as the exact objective sees it, the rows whose success it denies)."""
        draw = Draw(random.fold(keys.to(center.device), "fixed"))
        truth = _detached(exact(found.x, None if context is None else dict(context), draw))
        success = found.success if truth.success is None else truth.success
        denied = found.success & ~success
        forwards = work.forwards + len(center)
        found = replace(found, value=truth.value, success=success, forwards=forwards)
        return found, denied


def _joined(kept: list[Any], column: int, order: Tensor) -> Tensor:
    return torch.cat([k[column] for k in kept])[order]
