"""Models beside each other."""

import csv
import io
import sys

import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import notbugs as nb
from notbugs.core.errors import StoreError
from notbugs.judge import Comparison, Difference, compare, evaluate, evaluation_attacks
from notbugs.judge.compare import _holm


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.fixture(scope="module")
def models():
    """The second is much like the first."""
    other = net(0)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.03 * torch.randn(p.shape, generator=torch.manual_seed(3))
    return {"a": net(0), "b & c": other}


@pytest.fixture(scope="module")
def pair(models):
    x = torch.rand(60, 1, 4, 4, generator=torch.manual_seed(2))
    return x, models["a"](x).argmax(dim=1)


LINF, FMN = nb.Threat.parse("linf:0.02"), nb.attacks.fmn(nb.L2())
THREATS, METHODS = ("linf:0.02", "l2:0.1"), ("pgd-3", "fgsm")


@pytest.fixture(scope="module")
def found(models, pair) -> Comparison:
    return compare(models, pair, THREATS, METHODS, curves=True)


def test_each_cell_is_the_evaluation_of_its_own(found, models, pair) -> None:
    assert len(found.cells) == 8
    for cell in found.cells:
        like = evaluate(models[cell.model], pair, cell.threat, attacks=cell.method)
        assert torch.equal(like.robust, cell.verdict.robust)
    rates = {(r["model"], r["threat"], r["method"]): r["robust_accuracy"] for r in found.records()}
    assert len(rates) == 8
    assert rates["a", "linf:0.02", "pgd-3"] < 100
    assert len(set(rates.values())) > 2


def test_differences_are_mcnemars(found) -> None:
    robust = {(c.model, str(c.threat), c.method): c.verdict.robust for c in found.cells}
    assert len(found.differences) == 4
    for difference in found.differences:
        key = str(difference.threat), difference.method
        a, b = robust["a", *key], robust["b & c", *key]
        assert difference.a_only == int((a & ~b).sum())
        assert difference.b_only == int((b & ~a).sum())
        only = difference.a_only, difference.b_only
        like = binomtest(only[0], sum(only), 0.5).pvalue
        assert difference.p_value == pytest.approx(like)
        assert difference.points == pytest.approx(100 * float(a.float().mean() - b.float().mean()))
        low, high = difference.interval
        assert low < difference.points < high
    assert min(d.p_value for d in found.differences) < 1


def test_holm_against_its_definition() -> None:
    assert _holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert _holm([0.6, 0.5]) == [1.0, 1.0]
    assert _holm([]) == []


def test_a_difference_without_any_is_centred() -> None:
    even = Difference(nb.Threat(nb.L2(), 1.0), "pgd", "a", "b", 100, 3, 3, 1.0, 1.0)
    low, high = even.interval
    assert even.points == 0
    assert low == pytest.approx(-high)
    # Agresti & Min's rule by hand: 1.96 * sqrt(7) / 102
    assert high == pytest.approx(100 * 1.96 * 7**0.5 / 102)


def test_finished_parts_are_read_and_new_ones_computed(
    models, pair, found, tmp_path, monkeypatch
) -> None:
    one = {"a": models["a"]}
    first = compare(one, pair, THREATS, METHODS, curves=True, save_to=tmp_path)
    runs = list[str]()
    for cls in {type(a) for m in METHODS for a in evaluation_attacks(m, LINF)} | {type(FMN)}:
        monkeypatch.setattr(cls, "find", _told(cls.find, runs))
    again = compare(one, pair, THREATS, METHODS, curves=True, save_to=tmp_path)
    assert runs == []
    assert again.records() == first.records()  # seconds and queries too
    assert again.curves == first.curves
    both = compare(models, pair, THREATS, METHODS, curves=True, save_to=tmp_path)
    assert set(runs) == {"PGD-3", "FGSM", "FMN-linf-100", "FMN-l2-100"}
    assert len(runs) == 6
    drop = ("seconds", "queries")
    assert [{k: v for k, v in r.items() if k not in drop} for r in both.records()] == [
        {k: v for k, v in r.items() if k not in drop} for r in found.records()
    ]
    assert both.curves == found.curves
    for file in tmp_path.iterdir():
        file.write_text(file.read_text().replace("true", "false", 1))
    with pytest.raises(StoreError, match="damaged"):
        compare(one, pair, THREATS, METHODS, curves=True, save_to=tmp_path)


def _told(find, runs: list[str]):
    """`find` of an attack, which leaves its name."""

    def told(self, victim, inputs):
        runs.append(self.name)
        return find(self, victim, inputs)

    return told


def test_the_standard_evaluation_keeps_its_diagnosis(models, pair, tmp_path, monkeypatch) -> None:
    few = pair[0][:12], pair[1][:12]
    one = {"a": models["a"]}
    first = compare(one, few, "linf:0.02", "AutoAttack", save_to=tmp_path)
    alone = evaluate(models["a"], few, "linf:0.02")
    module = sys.modules["notbugs.judge.evaluate"]
    monkeypatch.setattr(module, "diagnose", None)  # not called again
    again = compare(one, few, "linf:0.02", "AutoAttack", save_to=tmp_path)
    assert len(first.cells[0].verdict.diagnosis) > 3
    assert again.cells[0].verdict.diagnosis == first.cells[0].verdict.diagnosis
    assert [c["check"] for c in alone.masking] == [
        c["check"] for c in first.cells[0].verdict.masking
    ]


def test_tables_for_papers(found) -> None:
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["model"] for row in rows] == [r["model"] for r in found.records()]
    assert float(rows[3]["robust_accuracy"]) == found.records()[3]["robust_accuracy"]
    latex = found.latex()
    assert r"b \& c" in latex
    low = min(d.interval[0] for d in found.differences)
    assert low < 0
    assert f"$-${-low:.1f} -- " in latex  # minus signs, no hyphens
    assert "pgd-3" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    assert all(line.endswith(r"\\") for line in latex.splitlines() if " & " in line)
    markdown = found.markdown().splitlines()
    assert len({line.count("|") for line in markdown[:10]}) == 1
    assert markdown[2].startswith("| linf:0.02 | pgd-3 | a |")
    assert markdown[3].startswith("| linf:0.02 | pgd-3 | b & c |")  # what compares lies together


def test_a_shuffling_loader_gives_all_models_the_same_images(models, pair) -> None:
    loader = DataLoader(TensorDataset(*pair), batch_size=7, shuffle=True)
    twice = {"one": models["a"], "two": models["a"]}
    (difference,) = compare(twice, loader, "linf:0.02", "fgsm").differences
    assert (difference.a_only, difference.b_only, difference.p_value) == (0, 0, 1.0)


def test_upper_bounds_are_marked(models, pair) -> None:
    saturated = nn.Sequential(models["a"], nn.Softmax(dim=1))
    module = nn.Sequential(saturated, _Round())
    both = {"masked": module, "plain": models["a"]}
    found = compare(both, pair, "linf:0.05", "fgsm")
    assert found.cells[0].verdict.is_upper_bound
    assert not found.cells[1].verdict.is_upper_bound
    assert found.differences[0].is_upper_bound
    assert found.markdown().endswith("| bound |")
    assert "| ≤ " in found.markdown()
    assert r"$\leq$" in found.latex()


def test_a_model_without_gradients_has_no_curve(models, pair) -> None:
    class Blind(nn.Module):
        def forward(self, x):
            return models["a"](x).detach()

    both = {"blind": Blind(), "a": models["a"]}
    found = compare(both, pair, "linf:0.02", "square-20", curves=True, batch_size=16)
    assert [name for name, _ in found.curves] == ["a"]
    assert len(found.cells) == 2


class _Round(nn.Module):
    def forward(self, z):
        return (z * 4).round()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({}, "l2:1"), "`models` must hold at least one"),
        (({"a": net(0)}, ["l2:1", "l2:1.0"]), "`threats` must hold at least one, each once"),
        (({"a": net(0)}, "l2:1", ["pgd", "pgd"]), "`methods` must hold at least one, each once"),
        (({"a": net(0)}, "l2:1", ("pgd", "fmn")), "at any distance"),
        (({"a": net(0)}, "l2:1", ("pgd-5", "PGD_5")), "name each evaluation once"),
        (({"a": net(0)}, "l2:1", ("pgd-20", "pgd")), "name each evaluation once"),
        (({"a": net(0)}, "l2:1", "pdg"), "Did you mean 'pgd'"),
    ],
)
def test_what_cannot_be_compared_is_refused(pair, arguments, words) -> None:
    models, *rest = arguments
    with pytest.raises(ValueError, match=words):
        compare(models, pair, *rest)


def test_models_are_checked_before_any_is_judged(models, pair, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["notbugs.judge.compare"], "evaluate", None)  # never reached
    other = nb.build("linear", shape=(1, 8, 8), classes=3, seed=0)
    with pytest.raises(ValueError, match="shape") as error:
        compare({**models, "other": other}, pair, "l2:1", "pgd")
    assert "While: the model 'other'" in error.value.__notes__
    unchecked = compare.__wrapped__  # by the tests' checker of annotations
    with pytest.raises(TypeError, match="`models` must be a mapping"):
        unchecked([models["a"]], pair, "l2:1")
    with pytest.raises(TypeError, match="sequences"):
        unchecked(models, pair, None)
    x, y = pair
    with pytest.raises(ValueError, match="labels as whole numbers"):
        compare(models, (x, y + 0.5), "l2:1")


def test_odd_names_stay_in_their_cells(pair, models) -> None:
    found = compare({"a\n| b": models["a"]}, pair, "l2:0.1", "fgsm")
    assert "| a \\| b |" in found.markdown()
    assert "a | b &" in found.latex()


def test_the_sheet_has_a_line_a_model_and_a_point_a_verdict(found, models, pair) -> None:
    from notbugs.report.figures import comparison_sheet

    axes = comparison_sheet(found).axes
    assert len(axes) == 2
    for ax, norm in zip(axes, ("linf", "l2"), strict=True):
        lines = [a for a in ax.get_lines() if str(a.get_gid()).startswith("line:")]
        assert len(lines) == 2
        cells = [c for c in found.cells if c.threat.norm.name == norm]
        drawn = {c.lines[0].get_gid(): c for c in ax.containers}
        for cell in cells:
            point = drawn[f"point:{cell.model} {cell.threat} {cell.method}"]
            assert point.lines[0].get_ydata()[0] == cell.verdict.robust_accuracy
    with pytest.raises(ValueError, match="curves=True"):
        comparison_sheet(Comparison(found.cells))
