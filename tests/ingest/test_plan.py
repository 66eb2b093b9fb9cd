"""What waits to be read: each session once, however often and by whom it was noticed."""

from pathlib import Path

import pytest

from ingest.plan import Plan
from ingest.session import SourceFile


def session(name: str, size: int = 10) -> SourceFile:
    return SourceFile("codex", Path(f"/sessions/{name}.jsonl"), size, 1)


def names(plan: Plan) -> list[str]:
    taken = []
    while plan:
        taken += [item.path.stem for item in plan.next_batch()]
    return taken


def test_a_session_that_changes_while_it_waits_goes_first_and_is_read_and_counted_once() -> None:
    plan = Plan()
    assert len(plan.add([session("a"), session("b"), session("c")])) == 3
    assert plan.add_urgent([session("b", 20)]) == []  # counted already
    assert [item.path.stem for item in plan.add_urgent([session("d")])] == ["d"]
    assert names(plan) == ["d", "b", "a", "c"]


def test_a_session_that_is_about_to_be_read_does_not_wait_behind_the_others_too() -> None:
    plan = Plan()
    plan.add_urgent([session("a")])
    assert [item.path.stem for item in plan.add([session("a"), session("b")])] == ["b"]
    assert names(plan) == ["a", "b"]


def test_a_session_that_was_taken_may_come_again() -> None:
    plan = Plan()
    plan.add([session("a")])
    plan.add_urgent([session("a")])
    assert names(plan) == ["a"]
    assert len(plan.add([session("a")])) == 1
    assert names(plan) == ["a"]
    assert len(plan.add_urgent([session("a")])) == 1
    assert names(plan) == ["a"]


def test_the_rest_of_a_session_goes_on_where_it_waits_already() -> None:
    plan = Plan()
    plan.add([session("b")])
    plan.add_urgent([session("a")])
    plan.put_back([session("a")], urgent=False)  # it grew while a slice of it was read
    assert names(plan) == ["a", "b"]


@pytest.mark.parametrize("are_known", [False, True])
def test_thousands_of_sessions_that_come_at_once_one_by_one_hold_nothing_up(are_known, monkeypatch) -> None:
    num_asked = 0
    name_of = SourceFile.name.fget

    def counted(source: SourceFile) -> str:
        nonlocal num_asked
        num_asked += 1
        return name_of(source)

    monkeypatch.setattr(SourceFile, "name", property(counted))
    plan, num = Plan(), 300
    if are_known:
        plan.add([session(str(n)) for n in range(num)])
    for n in range(num):
        plan.add_urgent([session(str(n))])
    assert names(plan) == [str(n) for n in reversed(range(num))]  # what changed last is what somebody is at
    assert num_asked < 10 * num


def test_a_session_that_went_first_and_comes_again_is_read_again_once() -> None:
    plan = Plan()
    plan.add([session("a"), session("b")])
    plan.add_urgent([session("b")])
    assert [item.path.stem for item in plan.next_batch()] == ["b"]
    assert len(plan.add([session("b")])) == 1
    assert names(plan) == ["a", "b"]
    assert plan.next_batch() == []
