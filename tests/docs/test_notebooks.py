"""The notebooks: executed, kept clean; the checks of the lesson refuse wrong answers."""

import re
import sys
from pathlib import Path

import pytest

for needed in ("nbclient", "ipykernel"):
    pytest.importorskip(needed, reason="notebooks need it: pip install notbugs[docs]")

from nbformat import NotebookNode, v4  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import notebooks  # noqa: E402

SOLVED = "lesson-solutions"
RUN = [name for name in notebooks.NAMES if name not in (notebooks.LESSON, SOLVED)]
WRONG = {
    "1": (
        ('reduction="sum"', 'reduction="mean"'),
        ("return torch.autograd.grad(loss, leaf)[0]", "loss.backward(); return leaf.grad"),
    ),
    "2": (("x + eps", "x - eps"), (".clamp(0, 1)", ""), (".sign()", "")),
    "3": (("(x, *attacked)", "attacked"), (".all(dim=0).float()", ".float().mean(dim=1).min()")),
    "4a": (
        (".clamp(max=1)", ""),
        ("delta.flatten(1).norm(dim=1)", "delta.norm().expand(len(delta))"),
    ),
    "4b": (
        ("project(moved - x, eps)", "moved - x"),
        (".clamp(0, 1)", ""),
        ("(targets, -1)", "(targets, 1)"),
        ("2.5 * eps", "0.1 * eps"),
    ),
    "5": (
        ("torch.randint(1, 10,", "torch.randint(0, 10,"),
        ("return pgd(net, x, y, eps, steps=20, targets=targets)", "return x"),
        ("targets=targets), targets", "targets=targets), y"),
    ),
}
"""Of each exercise, solutions with a mistake: (what is replaced, by what)."""


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def check_outputs(run: NotebookNode) -> None:
    """Every cell ran, in order, with nothing on stderr."""
    assert [cell.execution_count for cell in code(run)] == list(range(1, len(code(run)) + 1))
    outputs = [output for cell in code(run) for output in cell.outputs]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]


def test_all_files_are_listed() -> None:
    assert {path.stem for path in notebooks.FOLDER.glob("*.ipynb")} == set(notebooks.NAMES)


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_it_is_kept_without_outputs_and_noise(name) -> None:
    notebook = notebooks.read(name)
    text = notebooks.path_of(name).read_text()
    assert text == notebooks.kept(notebook), "run: python docs/notebooks.py"
    assert '"execution_count": null' in text
    assert '"outputs": [' not in text.replace('"outputs": []', "")
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]{2,40}", each) for each in ids)


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_its_text_quotes_no_result_and_its_links_lead_somewhere(name) -> None:
    text = "\n\n".join(c.source for c in notebooks.read(name).cells if c.cell_type == "markdown")
    assert not re.findall(r"\d ?(?:%|percent)", text)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        assert (notebooks.FOLDER / link).exists(), link


# `.ci/run` executes all of them, in `make docs`, before the tests.
@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_it_runs_and_makes_a_page(name) -> None:
    run = notebooks.cached(name, notebooks.BUILT)  # as `make docs` executed this very code, if so
    check_outputs(run)
    text, pictures = notebooks.page(run, name)
    assert text.startswith("# ")
    assert len(pictures) >= 2
    for file, content in pictures.items():
        assert f"({file})" in text
        assert content.startswith(b"\x89PNG")


def test_the_lesson_is_made_from_its_solutions() -> None:
    lesson = notebooks.read(notebooks.LESSON)
    assert notebooks.kept(lesson) == notebooks.kept(notebooks.exercises(notebooks.read(SOLVED)))
    empty = [cell for cell in code(lesson) if "# TODO" in cell.source]
    assert [cell.id for cell in empty] == [f"exercise-{number}" for number in WRONG]
    assert "SOLUTION" not in notebooks.kept(lesson)


def answers(cell: NotebookNode) -> list[tuple[str, str]]:
    """(what a check must raise, code): an exercise that is not done, and its wrong solutions."""
    number = cell.id.removeprefix("exercise-")
    found = [("NotImplementedError", notebooks.stub(cell.source, number))]
    for right, wrong in WRONG[number]:
        assert right in cell.source
        found.append(("AssertionError", cell.source.replace(right, wrong)))
    return found


@pytest.mark.slow
def test_the_solutions_pass_the_checks_and_wrong_ones_do_not() -> None:
    """One kernel: before each solution the wrong ones, each with a check that must fail."""
    solved = notebooks.read(SOLVED)
    checks = {cell.id: cell for cell in solved.cells if cell.id.startswith("check-")}
    cells, must = list[NotebookNode](), list[str]()
    for cell in solved.cells:
        if cell.id.startswith("exercise-"):
            check = checks[cell.id.replace("exercise", "check")]
            for error, source in answers(cell):
                may_fail = v4.new_code_cell(check.source, metadata={"tags": ["raises-exception"]})
                cells += [v4.new_code_cell(source), may_fail]
                must.append(error)
        cells.append(cell)
    run = notebooks.executed(v4.new_notebook(cells=cells))
    check_outputs(run)
    tried = [cell for cell in code(run) if cell.metadata.get("tags")]
    raised = [[o.ename for o in cell.outputs if o.output_type == "error"] for cell in tried]
    assert raised == [[error] for error in must]
    passed = [cell.outputs[0].text for cell in code(run) if cell.id in checks]
    assert passed == ["ok\n"] * len(WRONG)


def test_a_page_is_executed_once_until_something_changes(tmp_path, monkeypatch) -> None:
    asked = list[str]()

    def executed(notebook: NotebookNode) -> NotebookNode:
        asked.append(notebook.cells[0].source)
        return notebook

    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setattr(notebooks, "executed", executed)
    for source in ("1 + 1", "1 + 1", "2 + 2"):
        tiny = v4.new_notebook(cells=[v4.new_code_cell(source, id="sum")])
        notebooks.path_of("tiny").write_text(notebooks.kept(tiny))
        notebooks.cached("tiny", tmp_path / "built")
    assert asked == ["1 + 1", "2 + 2"]
    assert len(list((tmp_path / "built").iterdir())) == 1


def test_a_cell_that_fails_is_an_error() -> None:
    from nbclient.exceptions import CellExecutionError

    broken = v4.new_notebook(cells=[v4.new_code_cell("assert 1 == 2, 'of course'")])
    with pytest.raises(CellExecutionError, match="of course"):
        notebooks.executed(broken)
