import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from notbugs.core.errors import DataError, StoreError
from notbugs.report import hero, write_report
from notbugs.report.formatting import cell
from notbugs.report.page import render
from notbugs.report.reading import read_run, set_row
from report.made_run import Made, make_run

FIGURES = ("examples", "bars", "crossover", "adversarial")
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


def without_pictures(run):
    """The page with empty pictures: quick to make."""
    return render(run, dict.fromkeys(FIGURES, b""), dict.fromkeys(FIGURES, b""))


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_every_set_and_every_number_is_in_the_table(run, reader) -> None:
    for row in run.sets:
        eps = "–" if row.eps is None else f"{row.eps:g}"
        found = next(r for r in reader.rows if r[:2] == [row.name, eps])
        shown = [cell(row, c) for c in row.columns if any(r.mean(c) for r in run.sets)]
        assert found[2:-1] == shown
        assert found[-1] == "3"
        for column in ("clean", "shifted", "robust_half_eps", "robust_eps", "true_labels"):
            assert f"{row.mean(column):.1f} ± {row.std(column):.1f}" in found


def test_claims_are_shown_with_their_verdicts(run, reader) -> None:
    for claim in run.result["claims"]:
        row = next(r for r in reader.rows if claim["statement"] in r)
        assert f"{claim['ours']:.1f} ± {claim['std']:.1f}" in row
        assert claim["rule"] in row
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
        "Synthetic digits: are adversarial examples features?",
        "1,260 to train, 140 held out, 397 to test; 8 × 8 pixels, 1 channel",
        "L2, ε = 1 and 0.5 in pixel units",
        "PGD-20, untargeted",
        "ε = 0.5, 1, 2",
        "notbugs 0.1.0, torch 2.13.0",
        "x86_64, 2 cores, no GPU",
        "1 min 33 s of compute in this run, 7 min 01 s including stored results",
        "notbugs reproduce ilyas2019 --data digits --preset laptop",
        "3 (each varies split",
    ):
        assert part in reader.text, part


def test_recipes_are_there_to_be_unfolded(run, reader) -> None:
    assert reader.tags.count("details") == 5
    assert '"eps_warmup"' in reader.text
    assert '"push_steps": 40' in reader.text


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


def test_figures_lie_beside_the_page(page) -> None:
    folder = page.parent
    assert sorted(p.stem for p in (folder / "figures").iterdir()) == sorted(FIGURES)
    for path in (folder / "figures").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 900
    assert list(folder.rglob("*.tmp")) == []


def test_names_of_users_are_text_and_never_markup(run) -> None:
    evil = '<script>alert("1")</script>'
    classes = (evil, *run.classes[1:])
    result = run.result | {"dataset": evil}
    text = without_pictures(replace(run, result=result, classes=classes))
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in text
    assert "<b>its</b>" not in text  # from a claim's statement
    assert evil in Reader(text).text


def test_one_seed_and_one_radius(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, Made(seeds=1, radii=(2.0,), classes=("a", "b"))))
    reader = Reader(without_pictures(run))
    row = next(r for r in reader.rows if r[0] == "D_det")
    assert row[1:4] == ["2", "64.8", "5.7"]
    assert "over 1 seed." in reader.text
    assert "none here: one seed" in reader.text
    assert "guessing, 50 %" in reader.text
    assert "±" not in "".join(row)


def test_columns_that_apply_to_no_row_are_left_out(run) -> None:
    bare = {"set": "D", "eps": None, "clean": 90.0, "clean_std": None, "robust_eps": None}
    reader = Reader(without_pictures(replace(run, sets=(set_row(bare | {"seeds": 1}),))))
    assert ["Set", "ε", "Clean %", "Seeds"] in reader.rows
    assert ["D", "–", "90.0", "1"] in reader.rows


def test_planted_sets_have_their_own_table(tmp_path: Path, reader) -> None:
    assert "Against the known truth" not in reader.text
    run = read_run(make_run(tmp_path, Made(planted=True)))
    planted = Reader(without_pictures(run))
    assert "Against the known truth" in planted.text
    head = ["Set", "ε", "Robust feature %", "Model: robust %", "Seeds"]
    place = planted.rows.index(head)
    assert planted.rows[place + 1][2:4] == ["90.2 ± 2.7", "17.9 ± 0.7"]
    assert planted.rows[place + 2][2:4] == ["89.8 ± 2.7", "–"]


def test_a_run_without_pictures_still_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path, Made(samples=False))
    text = write_report(folder).read_text(encoding="utf-8")
    assert sorted(p.stem for p in (folder / "figures").iterdir()) == ["bars", "crossover"]
    assert "some figures are missing" in text


def test_settings_beyond_flags_are_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    path = folder / "results.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result["conditions"]["config"]["standard"]["lr"] = 0.123
    path.write_text(json.dumps(result))
    assert "Not every setting" in without_pictures(read_run(folder))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path, Made(samples=False))
    (folder / "figures").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write '.*bars.png'"):
        write_report(folder)


def test_no_results_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read '.*results.json'"):
        write_report(tmp_path)


def test_hero_is_one_small_wide_picture(run_folder, tmp_path: Path) -> None:
    path = hero(run_folder, tmp_path / "docs" / "hero.png")
    assert path.stat().st_size <= 200_000
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
        assert picture.width > 1.2 * picture.height


def test_hero_needs_pictures(tmp_path: Path) -> None:
    folder = make_run(tmp_path, Made(samples=False))
    with pytest.raises(DataError, match="holds no pictures of the sets"):
        hero(folder, tmp_path / "hero.png")
