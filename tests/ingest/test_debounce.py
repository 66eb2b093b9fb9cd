"""Waiting for silence, but not for ever."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.debounce import Debounce, LATEST_s, QUIET_s


def test_a_turn_written_in_pieces_is_taken_once_and_whole():
    waiting = Debounce()
    for piece in range(4):
        waiting.note("s", 10 + piece * 0.1)
        assert waiting.take(10 + piece * 0.1 + 0.05) == []
    assert waiting.take(10.3 + QUIET_s) == ["s"]
    assert waiting.next_s() is None


def test_what_never_falls_silent_is_taken_at_last():
    waiting = Debounce()
    taken = []
    for n in range(40):
        waiting.note("s", 10 + n * 0.1)
        taken += [10 + n * 0.1 for _ in waiting.take(10 + n * 0.1)]
    assert len(taken) == 4
    assert taken[0] - 10 <= LATEST_s + 0.1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.5)), max_size=40))
def test_nothing_waits_longer_than_said_and_nothing_is_lost(changes):
    waiting, now_s = Debounce(), 100.0
    first: dict[str, float] = {}
    for key, pause_s in changes:
        end_s = now_s + pause_s
        while (next_s := waiting.next_s()) is not None and next_s <= end_s:
            for taken in waiting.take(next_s):
                assert next_s <= first.pop(taken) + LATEST_s + 1e-9
        now_s = end_s
        waiting.note(key, now_s)
        first.setdefault(key, now_s)
    assert set(waiting.take(now_s + LATEST_s)) == set(first)
    assert not len(waiting)
