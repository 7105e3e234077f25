"""What users and their files are called, made fit to be shown."""

import pytest

from notbugs.core.visible import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\x07b\x08c\rd\x9be", r"a\x07b\x08c\x0dd\x9be"),
        ("file\u202egnp.exe", r"file\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("not UTF-8 \udcff", r"not UTF-8 \xff"),
        ("half of a pair \ud83d", r"half of a pair \ud83d"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_what_would_act_or_hide_is_shown_as_its_escape(text, shown) -> None:
    assert visible(text) == one_line(text) == shown
    assert shown.isprintable()


@pytest.mark.parametrize("text", ["[b]plain[/b] :smile:", "Ä, ε ± ½ · 猫 😀", "two\nlines\tof", ""])
def test_what_can_be_seen_stays(text) -> None:
    assert visible(text) == text


def test_a_name_cannot_pose_as_a_line_of_its_own() -> None:
    assert one_line("x\nerror: all is lost") == "x\\nerror: all is lost"
