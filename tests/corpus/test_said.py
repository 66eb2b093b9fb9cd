"""The comparison of both counts sees what it is there to see; without a corpus."""

from dataclasses import replace

from lmm_mcp.domain.event import Event
from tests.corpus.said import Said, tally

SAID = (
    Said("prompt", "m1", "Which port does the till use?"),
    Said("reply", "m2", "It is", "0"),
    Said("reply", "m2", "7012.", "1"),
    Said("call", "call_1"),
    Said("result", "", "7012\n"),
    Said("reply", "m3", " ", noise="an empty block"),
)
KEPT = (
    Event("m1", "prompt", "Which port  does the till use?", 1),
    Event("m2", "reply", "It is", 2),
    Event("m2#1", "reply", "7012.", 2),
    Event("s1:call_1", "call", "grep port", 3, call_id="s1:call_1", tool="shell"),
    Event("5f1c", "result", "7012", 4),
    Event("m2#thought", "thought", "hm", 2),
)


def counted(said=SAID, kept=KEPT):
    return tally(said, [("s1", event) for event in kept])


def test_equal_counts_are_exact_whatever_blanks_and_noise_there_are():
    found = counted()
    assert found.is_exact
    assert found.num == {"prompt": 1, "reply": 2, "call": 1, "result": 1}
    assert found.noise == {"an empty block": 1}


def test_a_message_that_is_missing_is_lost_with_and_without_id():
    assert counted(kept=KEPT[1:]).lost == ["prompt m1"]
    assert counted(kept=(*KEPT[:2], *KEPT[3:])).lost == ["reply m2"]
    assert len(counted(kept=(*KEPT[:4], KEPT[5])).lost) == 1


def test_a_message_that_is_there_twice_is_doubled_also_in_another_thread_or_under_another_number():
    assert counted(kept=(*KEPT, KEPT[0])).doubled
    assert counted(kept=(*KEPT, replace(KEPT[0], id="m1#1"))).doubled == ["prompt m1"]


def test_a_message_that_nobody_said_is_invented_and_other_words_are_a_change():
    assert counted(kept=(*KEPT, Event("m9", "reply", "I never said that.", 9))).invented == ["reply m9"]
    assert counted(kept=(*KEPT, Event("6a2d", "result", "7012", 9))).invented == ["result 6a2d"]
    assert counted(kept=(*KEPT, Event("m3", "reply", " ", 9))).invented == ["reply m3"]
    assert counted(kept=(replace(KEPT[0], text="Which oven?"), *KEPT[1:])).changed == ["prompt m1"]


def test_a_message_that_several_files_repeat_is_one_and_words_without_id_count_as_often_as_they_are_said():
    assert counted(said=(*SAID, *SAID[:4])).is_exact
    assert len(counted(said=(*SAID, SAID[4])).lost) == 1
    again = Said("prompt", "", "go on", "s1 at 12:00")
    assert len(counted(said=(*SAID, again, again)).lost) == 1
