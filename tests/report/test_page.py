import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from notbugs.core.errors import DataError, StoreError
from notbugs.experiments.numbers import Cell
from notbugs.report import write_report
from report.made_run import Made, make_result, make_run, write_results

FIGURES = tuple(f"figure-{place}" for place in ("1-1", "1-2", "4-1", "4-3", "6-1", "6-2", "6-4"))
COLUMNS = {
    "sets": ("clean", "shifted", "true_labels"),
    "robust": ("clean", "shifted", "robust_half_eps", "robust_eps", "true_labels"),
}
HEADS = ("Clean %", "Shifted %", "True labels %", "Source fooled %", "Chance %")
VOID = {"meta", "link", "img", "source", "br", "hr", "input"}


class Reader(HTMLParser):
    """Collects rows of cells, attributes and text; fails on tags that do not match."""

    def __init__(self, text) -> None:
        super().__init__()
        self.open, self.rows, self.attributes, self.tags, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        data = data.replace("\xa0", " ")
        self.texts.append(data)
        if self.open and self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Writes pages with empty pictures: quick to make."""
    for name in ("png", "svg", "slide"):
        monkeypatch.setattr(f"notbugs.report.page.{name}", lambda figure: b"")
    monkeypatch.setattr("notbugs.report.page.draw", lambda *given: None)

    def write(result: dict) -> str:
        write_results(tmp_path, result)
        return write_report(tmp_path).read_text(encoding="utf-8")

    return write


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_every_set_and_every_number_is_in_the_table(run, reader) -> None:
    assert ["", *HEADS] in reader.rows
    numbers = run.drawn.numbers
    for table, columns in COLUMNS.items():
        for row in numbers.tables[table]:
            found = next(r for r in reader.rows if r[0] == row)
            for column, shown in zip(columns, found[1:], strict=False):
                cell = Cell(table, row, column)
                assert shown == f"{numbers.mean(cell):.1f} ± {numbers.spread(cell):.1f}"
    for row in numbers.tables["sets"]:
        found = next(r for r in reader.rows if r[0] == row)
        assert (found[-2] == "–") == row.startswith("leak:")
    for row in numbers.tables["radii"]:
        mark = " *" * (not row.endswith(" 0.5"))
        assert any(r[0] == row + mark for r in reader.rows)


def test_questions_stand_with_their_numbers(reader) -> None:
    row = next(r for r in reader.rows if r[0].startswith("Does the label leak"))
    assert "fixed random pattern" in row[1]
    assert row[2].startswith("leak:D_other: 2.3 ± ")
    assert row[2].endswith(" (Clean)")
    assert not any(r[0].startswith("Do the images matter") for r in reader.rows)  # no number


def test_claims_are_shown_with_their_verdicts(run, reader) -> None:
    for claim in run.results["claims"]:
        row = next(r for r in reader.rows if claim["statement"] in r)
        assert f"{claim['ours']:.1f} ± {claim['std']:.1f}" in row
        assert any(cell.startswith(claim["rule"]) for cell in row)
        assert any(cell.endswith(claim["why"]) for cell in row)
        assert claim["published"] in row
        expected = {True: "✓ holds", False: "✗ does not hold", None: "– undecided at 3 seeds"}
        assert row[0] == expected[claim["holds"]]
    control = next(r for r in reader.rows if "D_det reaches 60 % on true labels" in r)
    assert control[3] == "–"


def test_failed_claims_are_marked_and_counted(page, reader) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count('<tr class="failed">') == 1
    assert "✗ 1 does not hold" in reader.text
    assert "✓ 2 hold" in reader.text
    assert "– 1 undecided (needs at least 3 seeds" in reader.text


def test_the_page_tells_its_conditions(reader) -> None:
    for part in (
        "Synthetic digits: Are adversarial examples features?",
        "1,260 to train, 140 held out, 397 to test; 8 × 8 pixels, 1 channel, 10 classes",
        "under L2 attacks of size 1 (ε) and half of it",
        "those of PGD of 20 steps",
        "size of the changes",
        "notbugs 0.1.0, torch 2.13.0",
        "x86_64, 2 cores, no GPU",
        "1 min 33 s of compute in this run, 7 min 01 s including stored results",
        "notbugs reproduce ilyas2019 --data digits --preset laptop",
        "3 seeds (each varies split",
        "Data digest: 0123456789abcdef .",
    ):
        assert part in reader.text, part


def test_settings_are_there_to_be_unfolded(reader) -> None:
    assert reader.tags.count("details") == 1
    for part in ('"eps_warmup"', '"push_steps": 40', '"eval_steps": 20', '"eps_eval": 1.0'):
        assert part in reader.text


def test_nothing_is_loaded_from_anywhere(page, reader) -> None:
    links = [v for _, name, v in reader.attributes if name in ("src", "srcset", "href", "data")]
    assert len(links) == 2 * len(FIGURES) + 1
    assert all(v.startswith("data:") for v in links)
    text = page.read_text(encoding="utf-8")
    assert "script" not in reader.tags
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)


def test_figures_are_inside_with_words_for_those_who_do_not_see_them(reader) -> None:
    alts = [v for tag, name, v in reader.attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == len(FIGURES)
    assert all(len(alt) > 40 for alt in alts)
    assert reader.tags.count("figcaption") == len(FIGURES)


def test_captions_can_stand_alone(reader) -> None:
    alts = [v for tag, name, v in reader.attributes if (tag, name) == ("img", "alt")]
    pictures, numbers = (0, 4, 6), (1, 2, 3, 5)
    assert all(alts[i].endswith("Synthetic digits, seed 0.") for i in pictures)
    whiskers = "Synthetic digits, 3 seeds; whiskers: standard deviation."
    assert all(alts[i].endswith(whiskers) for i in numbers)
    assert all("control" in alts[i].lower() for i in (1, 2, 3))


def test_figures_lie_beside_the_page(page) -> None:
    folder = page.parent / "figures"
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == sorted(
        f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")
    )
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 900
    for path in folder.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "</svg>" in text
        assert "<text" in text
    assert list(page.parent.rglob("*.tmp")) == []


def test_names_of_users_are_text_and_never_markup(quick) -> None:
    evil = '<script>alert("1")</script>'
    result = make_result(Made(title=evil))
    result["conditions"]["classes"] = [evil, *result["conditions"]["classes"][1:]]
    text = quick(result)
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in text
    assert "<b>its</b>" not in text  # from a claim's statement
    assert evil in Reader(text).text


def test_one_seed_and_one_radius(quick) -> None:
    reader = Reader(quick(make_result(Made(seeds=1, radii=(2.0,), classes=("a", "b")))))
    row = next(r for r in reader.rows if r[0] == "D_det")
    assert row[1:3] == ["64.8", "5.7"]
    assert "Synthetic digits, 1 seed." in reader.text
    assert "1 seed (each varies" in reader.text
    assert "±" not in "".join(row)


def test_columns_that_apply_to_no_row_are_left_out(quick) -> None:
    bare = {"D": {"clean": [90.0], "clean_mlp": [None], "chance": [10.0]}}
    reader = Reader(quick(make_result(Made()) | {"tables": {"sets": bare}}))
    assert ["", "Clean %", "Chance %"] in reader.rows
    assert ["D", "90.0", "10.0"] in reader.rows


def test_planted_sets_have_their_own_table(quick, reader) -> None:
    assert "Against the known truth" not in reader.text
    planted = Reader(quick(make_result(Made(planted=True))))
    assert "Against the known truth" in planted.text
    place = planted.rows.index(["", "Robust feature %", "Model: robust %"])
    assert planted.rows[place + 1] == ["D", "90.2 ± 2.7", "17.9 ± 0.7"]
    assert planted.rows[place + 2] == ["D_R", "89.8 ± 2.7", "–"]


def test_a_run_without_pictures_still_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path, Made(pictures=False, seeds=1, radii=(1.0,)))
    reader = Reader(write_report(folder).read_text(encoding="utf-8"))
    assert sorted(p.stem for p in (folder / "figures").glob("*.png")) == [
        FIGURES[i] for i in (1, 2, 3, 5)
    ]
    assert "Images, the same with the change" not in reader.text


def test_a_run_of_the_smoke_preset_says_that_it_says_nothing(quick, reader) -> None:
    assert "verdicts say nothing" not in reader.text
    assert "verdicts say nothing" in quick(make_result(Made()) | {"preset": "smoke"})


def test_the_command_is_the_one_that_the_run_stored(quick) -> None:
    command = "notbugs reproduce ilyas2019 --set standard.lr=0.123"
    assert command in quick(make_result(Made()) | {"command": command})


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path, Made(pictures=False))
    (folder / "figures").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write '.*figure-1-2.png'"):
        write_report(folder)


def test_no_results_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read '.*results.json'"):
        write_report(tmp_path)


def test_an_unknown_paper_is_refused(tmp_path: Path) -> None:
    result = make_result(Made()) | {"experiment": "ilyas1919"}
    (tmp_path / "results.json").write_text(json.dumps(result))
    with pytest.raises(DataError, match="unknown paper"):
        write_report(tmp_path)


def test_a_mean_over_some_seeds_says_so(run_folder, quick) -> None:
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    results["tables"]["sets"]["D_det"]["clean"] = [50.0, None, 60.0]
    reader = Reader(quick(results))
    row = next(r for r in reader.rows if r[0] == "D_det")
    assert row[1].replace("\xa0", " ") == "55.0 ± 7.1 (n = 2)"


def test_figures_are_there_as_slides(page) -> None:
    slides = sorted((page.parent / "figures" / "slides").iterdir())
    assert [s.name for s in slides] == sorted(p.name for p in page.parent.glob("figures/*.png"))
    for slide in slides:
        with Image.open(slide) as picture:
            assert picture.size == (1920, 1080)
