"""Laws of the one loop, over every rule, set, keep and stop."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from notbugs.core import random, rows
from notbugs.engine import (
    L2,
    LBFGS,
    AbstractObjective,
    AbstractStop,
    Adam,
    BallInBox,
    Box,
    Draw,
    Evaluation,
    Everywhere,
    Fourier,
    FromImages,
    GiveUp,
    Last,
    Linf,
    LowestValue,
    MaCo,
    Momentum,
    Never,
    OnSuccess,
    Pixels,
    Plateau,
    Solver,
    Steepest,
    StepInfo,
    SuccessThenLowest,
    Trace,
    UniformIn,
)
from notbugs.engine.either import Either
from notbugs.engine.tanh import Tanh

RULES = {
    "steepest-linf": Steepest(Linf(), 0.02),
    "steepest-l2": Steepest(L2(), 0.1),
    "steepest-l2-cosine": Steepest(L2(), 0.2, "cosine"),
    "momentum": Momentum(L2(), 0.1),
    "adam": Adam(0.02),
    "lbfgs": LBFGS(3),
}
SETS = {
    "linf": BallInBox(Linf(), 0.1),
    "l2": BallInBox(L2(), 0.5),
    "box": Box(),
    "everywhere": Everywhere(),
}
VARIABLES = {"pixels": Pixels(), "tanh": Tanh(), "fourier": Fourier(), "maco": MaCo()}
STOPS = {"never": Never(), "success": OnSuccess(), "plateau": Plateau(5), "give up": GiveUp()}


INF = float("inf")


@dataclass(frozen=True)
class Bowl(AbstractObjective):
    """||x - goal||^2 with `goal` in the context; reached below a threshold."""

    reach: float = 0.02

    def __call__(self, x, context, draw) -> Evaluation:
        value = (x - context["goal"]).square().flatten(1).sum(dim=1)
        return Evaluation(value, value.detach() < self.reach)


@dataclass(frozen=True)
class Noisy(AbstractObjective):
    """A bowl whose value is perturbed by the row's own noise."""

    is_random = True

    def __call__(self, x, context, draw) -> Evaluation:
        value = (x - context["goal"]).square().flatten(1).sum(dim=1)
        return Evaluation(value + 0.1 * random.scalar(draw.at("noise"), x.dtype))


def problem(n: int = 12) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    keys = random.row_keys(n, "problem")
    center = random.uniform(keys, (1, 3, 3), torch.float64)
    goal = random.uniform(random.fold(keys, "goal"), (1, 3, 3), torch.float64)
    # Some rows begin near their goal, so that rows finish at different steps.
    goal[: n // 2] = (center + 0.05 * (goal - center))[: n // 2]
    return center, {"goal": goal}, keys


def every(test):
    for name, values in (("rule", RULES), ("within", SETS), ("stop", STOPS)):
        test = pytest.mark.parametrize(name, values.values(), ids=list(values))(test)
    return test


@every
def test_feasible_never_worse_than_the_start_and_reported_value_is_true(rule, within, stop) -> None:
    center, context, keys = problem()
    solver = Solver(within, rule, 25, keep=LowestValue(), stop=stop)
    found = solver.minimise(Bowl(), center, context, keys=keys)
    assert float(within.violation(found.x, center).max()) <= 1e-9
    first = Bowl()(center, context, None).value
    assert bool((found.value <= first + 1e-12).all())
    again = Bowl()(found.x, context, None)
    torch.testing.assert_close(again.value, found.value)
    assert torch.equal(again.success, found.success)


@every
def test_a_row_does_not_depend_on_its_neighbours(rule, within, stop) -> None:
    center, context, keys = problem()
    solver = Solver(within, rule, 15, stop=stop)
    whole = solver.minimise(Bowl(), center, context, keys=keys, start=UniformIn())
    order = torch.randperm(len(center), generator=random.generator("order"))
    for half in order.chunk(2):
        part = solver.minimise(
            Bowl(),
            center[half],
            {"goal": context["goal"][half]},
            keys=keys[half],
            start=UniformIn(),
        )
        torch.testing.assert_close(part.x, whole.x[half], rtol=0, atol=1e-12)
        assert torch.equal(part.gave_up, whole.gave_up[half])
        assert torch.equal(part.steps, whole.steps[half])


@every
def test_same_keys_same_bits_and_inputs_untouched(rule, within, stop) -> None:
    center, context, keys = problem()
    before = center.clone(), context["goal"].clone()
    state = torch.get_rng_state()
    solver = Solver(within, rule, 10, stop=stop)
    a = solver.minimise(Bowl(), center, context, keys=keys, start=UniformIn())
    b = solver.minimise(Bowl(), center, context, keys=keys, start=UniformIn())
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.value, b.value)
    assert torch.equal(center, before[0])
    assert torch.equal(context["goal"], before[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=list(VARIABLES))
def test_variables_are_images_in_the_box_row_by_row(variables) -> None:
    center, context, keys = problem()
    theta = variables.encode(center)
    steps = 5 * (1 - variables.in_pixels) * random.normal(keys, theta.shape[1:], theta.dtype)
    x = variables.decode(theta + steps)
    assert x.shape == center.shape
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    torch.testing.assert_close(variables.decode((theta + steps)[3:5]), x[3:5], rtol=0, atol=1e-12)
    solver = Solver(Everywhere(), Adam(0.05), 20, variables, LowestValue())
    found = solver.minimise(Bowl(), center, context, keys=keys)
    again = solver.minimise(Bowl(), center, context, keys=keys)
    assert torch.equal(found.x, again.x)
    first = Bowl()(variables.decode(theta), context, None).value
    assert bool((found.value <= first).all())
    assert float(found.value.mean()) < float(first.mean())
    part = solver.minimise(Bowl(), center[3:5], {"goal": context["goal"][3:5]}, keys=keys[3:5])
    torch.testing.assert_close(part.x, found.x[3:5], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", [RULES["adam"], RULES["steepest-l2-cosine"]], ids=["adam", "l2"])
def test_reaches_the_minimum_of_a_quadratic(rule) -> None:
    center, context, keys = problem()
    rule = Adam(0.05, schedule="cosine") if isinstance(rule, Adam) else rule
    found = Solver(Box(), rule, 400, keep=LowestValue()).minimise(
        Bowl(), center, context, keys=keys
    )
    assert float(found.value.max()) < 1e-3


@pytest.mark.parametrize(("norm", "expected"), [(Linf(), "sign"), (L2(), "ray")])
def test_closed_form_of_a_linear_objective(norm, expected) -> None:
    """On <g, x> the best point of a ball away from the box is center - eps * steepest(g)."""

    class Linear(AbstractObjective):
        def __call__(self, x, context, draw) -> Evaluation:
            return Evaluation((x * context["g"]).flatten(1).sum(dim=1))

    g = random.normal(random.row_keys(4, "g"), (1, 3, 3), torch.float64)
    center = torch.full((4, 1, 3, 3), 0.5, dtype=torch.float64)
    solver = Solver(BallInBox(norm, 0.2), Steepest(norm, 0.05), 20, keep=LowestValue())
    found = solver.minimise(Linear(), center, {"g": g}, keys=random.row_keys(4))
    torch.testing.assert_close(found.x, center - 0.2 * norm.steepest(g))
    torch.testing.assert_close(found.value, (center * g).flatten(1).sum(dim=1) - 0.2 * norm.dual(g))


def test_budget_is_t_gradients_and_one_final_evaluation() -> None:
    center, context, keys = problem()
    found = Solver(Box(), RULES["adam"], 7).minimise(Bowl(), center, context, keys=keys)
    assert found.backwards == 7 * len(center)
    assert found.forwards == 8 * len(center)
    assert found.steps.tolist() == [7] * len(center)


def test_finished_rows_stop_costing() -> None:
    center, context, keys = problem()
    solver = Solver(Everywhere(), RULES["steepest-l2"], 40, stop=OnSuccess())
    found = solver.minimise(Bowl(), center, context, keys=keys)
    assert found.backwards < 40 * len(center)
    assert not bool(found.gave_up.any())
    assert bool((found.steps[found.success] < 40).all())


def test_keep_policies() -> None:
    center, context, keys = problem()
    far = Steepest(L2(), 3.0)  # overshoots for ever
    last = Solver(Everywhere(), far, 5, keep=Last()).minimise(Bowl(), center, context, keys=keys)
    low = Solver(Everywhere(), far, 5, keep=LowestValue()).minimise(
        Bowl(), center, context, keys=keys
    )
    best = Solver(Everywhere(), far, 5, keep=SuccessThenLowest()).minimise(
        Bowl(0.05), center, context, keys=keys
    )
    assert bool((low.value < last.value).all())
    reached = Bowl(0.05)(center, context, None).success
    assert bool(best.success[reached].all())


def test_nan_rows_are_data_and_do_not_spread() -> None:
    class Broken(AbstractObjective):
        def __call__(self, x, context, draw) -> Evaluation:
            value = x.flatten(1).sum(dim=1)
            return Evaluation(torch.where(context["bad"], value * float("nan"), value))

    center = torch.rand(4, 1, 2, 2, generator=random.generator("nan"))
    bad = torch.tensor([False, True, False, False])
    found = Solver(Box(), Steepest(L2(), 0.1), 5).minimise(
        Broken(), center, {"bad": bad}, keys=random.row_keys(4)
    )
    assert found.value.isfinite().tolist() == [True, False, True, True]
    assert bool(found.x[~bad].isfinite().all())


def test_random_objectives_are_fresh_while_stepping_and_fixed_when_judged() -> None:
    center, context, keys = problem()
    solver = Solver(Box(), RULES["steepest-l2"], 10, keep=LowestValue())
    a = solver.minimise(Noisy(), center, context, keys=keys)
    b = solver.minimise(Noisy(), center[3:5], {"goal": context["goal"][3:5]}, keys=keys[3:5])
    torch.testing.assert_close(a.value[3:5], b.value)
    assert (2.0 * Noisy() + Bowl()).is_random


def test_exact_objective_confirms_every_success() -> None:
    center, context, keys = problem()
    strict = Bowl(reach=1e-4)
    found = Solver(Everywhere(), RULES["steepest-l2"], 30, stop=OnSuccess()).minimise(
        Bowl(reach=0.5), center, context, keys=keys, exact=strict
    )
    assert torch.equal(found.success, strict(found.x, context, None).success)
    assert not bool(found.success.all())


@dataclass(frozen=True)
class AfterFive(AbstractStop):
    """A row stops at the fifth step of a solve."""

    def init(self, info: StepInfo) -> None:
        return None

    def update(self, info: StepInfo, state: None) -> tuple[Tensor, None]:
        return torch.full_like(info.success, info.step == 5), None


def test_a_row_given_up_after_its_success_was_denied_counts_as_given_up() -> None:
    """Its steps of both solves together may exceed the budget of one."""
    center, _, keys = problem()
    context = {"goal": center + 0.35 / 3}  # nine entries: at a distance of 0.35
    copy, exact = Bowl(reach=0.03), Bowl(reach=-1.0)
    solver = Solver(Everywhere(), Steepest(L2(), 0.1), 6, stop=Either(OnSuccess(), AfterFive()))
    found = solver.minimise(copy, center, context, keys=keys, exact=exact)
    assert not bool(found.success.any())
    assert found.steps.tolist() == [2 + 5] * len(center)
    assert bool(found.gave_up.all())
    patient = replace(solver, stop=OnSuccess())
    assert not bool(patient.minimise(copy, center, context, keys=keys, exact=exact).gave_up.any())


def test_zero_gradients_are_counted() -> None:
    class Flat(AbstractObjective):
        def __call__(self, x, context, draw) -> Evaluation:
            return Evaluation((0 * x).flatten(1).sum(dim=1))

    center = torch.rand(3, 1, 2, 2, generator=random.generator("flat"))
    found = Solver(Box(), Steepest(L2(), 0.1), 6).minimise(Flat(), center, keys=random.row_keys(3))
    assert found.zero_grads.tolist() == [6, 6, 6]
    assert torch.equal(found.x, center)


def test_nan_gradients_count_as_zero_ones() -> None:
    """A row that cannot move must show, or masked gradients would pass for robustness."""

    class Rough(AbstractObjective):
        def __call__(self, x, context, draw) -> Evaluation:
            return Evaluation((x.detach() + (x - x.detach()).abs().sqrt()).flatten(1).sum(dim=1))

    center = torch.rand(3, 1, 2, 2, generator=random.generator("rough"))
    found = Solver(Box(), Steepest(L2(), 0.1), 4).minimise(Rough(), center, keys=random.row_keys(3))
    assert found.zero_grads.tolist() == [4, 4, 4]


def test_trace_observes_every_step_and_the_end() -> None:
    center, context, keys = problem()
    trace = Trace()
    found = Solver(Box(), RULES["steepest-l2"], 9, keep=Last()).minimise(
        Bowl(), center, context, keys=keys, observe=trace
    )
    (run,) = trace.runs
    assert run.values.shape == (10, len(center))
    first = Bowl()(center, context, Draw(keys))
    torch.testing.assert_close(run.values[0], first.value)
    torch.testing.assert_close(run.values[-1], found.value)
    assert float(run.values[-1].mean()) < float(run.values[0].mean())
    assert torch.equal(run.reached[-1], found.success | run.reached[-2])


def test_rows_that_finish_keep_their_last_value_in_the_trace() -> None:
    center, context, keys = problem()
    trace, alone = Trace(), Trace()
    solver = Solver(Everywhere(), RULES["steepest-l2"], 30, stop=OnSuccess())
    found = solver.minimise(Bowl(), center, context, keys=keys, observe=trace)
    (run,) = trace.runs
    assert len(set(found.steps.tolist())) > 1  # rows do leave one after the other
    assert sum(len(at.place) for at in run.steps) < 31 * len(center)
    assert run.values.shape == (31, len(center))
    assert torch.equal(run.reached[-1], found.success)
    for row, steps in enumerate(found.steps.tolist()):
        after = run.values[steps:, row]
        assert torch.equal(after, after[:1].expand_as(after))
        assert int(run.reached[:, row].sum()) == 31 - steps or not bool(found.success[row])
    part = rows.select(dict(context), torch.tensor([3, 1]))
    solver.minimise(Bowl(), center[[3, 1]], part, keys=keys[[3, 1]], observe=alone)
    torch.testing.assert_close(alone.runs[0].values, run.values[:, [3, 1]])


def test_rows_whose_success_is_refuted_are_traced_again_by_their_places() -> None:
    center, context, keys = problem()
    trace, reach = Trace(), 1.0
    first = Bowl()(center, context, Draw(keys)).value
    Solver(Box(), Steepest(L2(), 1e-6), 3).minimise(
        Bowl(reach=INF), center, context, keys=keys, exact=Bowl(reach=reach), observe=trace
    )
    denied = (first >= reach).nonzero()[:, 0].tolist()
    assert 0 < len(denied) < len(center)
    whole, again = trace.runs
    assert whole.rows.tolist() == list(range(len(center)))
    assert again.rows.tolist() == denied
    # They go on from the best point so far.
    torch.testing.assert_close(again.values[0], whole.values.amin(dim=0)[denied])


def test_a_random_objective_is_traced_as_it_is_judged() -> None:
    center, context, keys = problem()
    trace = Trace()
    found = Solver(Box(), RULES["steepest-l2"], 5, keep=LowestValue()).minimise(
        Noisy(), center, context, keys=keys, observe=trace
    )
    torch.testing.assert_close(trace.runs[0].values.amin(dim=0), found.value)


def test_objectives_add_and_scale() -> None:
    center, context, keys = problem()
    a, b = (f(center, context, Draw(keys)) for f in (Bowl(), 2 * Bowl() + Bowl()))
    torch.testing.assert_close(3 * a.value, b.value)


def test_impossible_combinations_are_refused() -> None:
    center, context, keys = problem()
    with pytest.raises(ValueError, match=r"`max_steps` must be at least 1; got 0"):
        Solver(Box(), RULES["adam"], 0)
    with pytest.raises(ValueError, match=r"`eps` must be a finite number above 0; got -1"):
        BallInBox(L2(), -1.0)
    with pytest.raises(ValueError, match=r"`step_size` must be a finite number above 0; got 0"):
        Steepest(L2(), 0.0)
    with pytest.raises(ValueError, match=r"Unknown schedule 'cosin'. Did you mean 'cosine'"):
        Steepest(L2(), 0.1, "cosin")
    with pytest.raises(ValueError, match=r"`keys` must have shape \(12,\)"):
        Solver(Box(), RULES["adam"], 1).minimise(Bowl(), center, context, keys=keys[:3])
    with pytest.raises(ValueError, match=r"`images` must have the centre's shape"):
        Solver(Box(), RULES["adam"], 1).minimise(
            Bowl(), center, context, keys=keys, start=FromImages(center[:2])
        )
