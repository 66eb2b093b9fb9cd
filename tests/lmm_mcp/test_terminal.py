"""What a person reads in a terminal: lines end at blanks; what a program reads is as it is."""

import sys

import pytest

from lmm_mcp.cli import program, terminal

LONG = "[c1] user: the port of the database is 5433, since another program keeps the usual one on this machine"


def test_a_line_goes_on_below_where_its_text_began():
    assert terminal.folded(LONG, 60).splitlines() == [
        "[c1] user: the port of the database is 5433, since another",
        "     program keeps the usual one on this machine",
    ]
    assert terminal.folded("     -> Move them out of the folder, or leave them", 36).splitlines() == [
        "     -> Move them out of the folder,",
        "        or leave them",
    ]
    assert terminal.folded("reading: nothing is being read now", 25).splitlines() == [
        "reading: nothing is being",
        "  read now",
    ]


@pytest.mark.parametrize("width", [20, 33, 40, 79, 80, 81])
def test_folding_takes_only_blanks_away_and_keeps_within_the_width(width):
    for text in (
        LONG,
        f"  1. {LONG}",
        f"warn {LONG}\n\n{LONG}",
        "the same   with  many blanks, and\ttabs between the words",
    ):
        folded = terminal.folded(text, width)
        assert folded.split() == text.split()
        assert all(len(line) <= width for line in folded.splitlines())


def test_a_command_an_id_and_a_word_that_is_too_long_stay_whole():
    told = "engine: none runs; an agent starts it, and so does `lmm serve --http`, too"
    assert any("`lmm serve --http`," in line for line in terminal.folded(told, 60).splitlines())
    sources = "2026-03-02 codex session 95b4095a [c1] 63b7c8b91b155c48 [c2] df04325e61bde471"
    assert any("[c2] df04325e61bde471" in line for line in terminal.folded(sources, 60).splitlines())
    path = "/home/ann/" + "a" * 90
    assert f"memory home: {path} (0.2 MB)" in terminal.folded(f"memory home: {path} (0.2 MB)", 80)


def test_text_without_blanks_between_its_words_ends_where_the_terminal_does():
    folded = terminal.folded("[c1] user: 我们把数据库的端口改成5433,因为5432已经被占用了。", 40).splitlines()
    assert "".join(line.strip() for line in folded) == "[c1] user: 我们把数据库的端口改成5433,因为5432已经被占用了。"
    assert len(folded) == 2
    assert len(folded[0]) + sum(ord(char) > 0x2E80 for char in folded[0]) <= 40
    assert not folded[1].strip().startswith("。")


def test_a_person_gets_lines_of_the_width_of_the_terminal_and_a_program_gets_them_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    terminal.say(LONG)
    terminal.say_brief(LONG)
    assert capsys.readouterr().out == f"{LONG}\n{LONG}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.say(LONG)
    said = capsys.readouterr().out
    terminal.say_brief(LONG)
    assert terminal.harmless(capsys.readouterr().out) == said == terminal.folded(LONG, 40) + "\n"
    terminal.say_whole(LONG)
    assert capsys.readouterr().out == f"{LONG}\n"


def test_a_complaint_is_folded_for_a_person_too(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert program.run(["recall"]) == 2
    whole = capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert program.run(["recall"]) == 2
    folded = capsys.readouterr().err
    assert folded.split() == whole.split()
    assert len(whole.splitlines()) == 1 < len(folded.splitlines())
