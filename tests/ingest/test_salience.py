"""How much passages are worth remembering: reasons that can be read, and an order that one would expect."""

import numpy as np
import pytest

from ingest.chunking import chunk_thread
from ingest.facts import observe
from ingest.salience import WEIGHTS, weigh
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.fact import Salience
from lmm_mcp.store.frequencies import Frequencies, count

THREAD = Thread("codex", "s1", "s1", cwd="/work/shop")
NOBODY = Frequencies(0, np.empty(0, np.uint64), np.empty(0, np.uint64))


def event(n: int, kind: str, text: str, **more: object) -> Event:
    return Event(f"e{n}", kind, text, 1_700_000_000_000 + 1000 * n, **more)  # type: ignore[arg-type]


def ran(n: int, command: str, output: str, exit_code: int) -> list[Event]:
    call = event(n, "call", command, call_id=f"c{n}", tool="shell", command=command)
    return [call, event(n + 1, "result", output, call_id=f"c{n}", exit_code=exit_code, failed=exit_code != 0)]


def weighed(
    *events: Event, thread: Thread = THREAD, frequencies: Frequencies = NOBODY, again: bool = False
) -> list[Salience]:
    turns = list(pair_turns(thread, events))
    chunks = chunk_thread(thread, turns, project="shop")
    observations = observe(thread, turns, project="shop")
    return list(weigh(turns, chunks, observations, frequencies=frequencies, is_told_again=lambda _: again))


def reasons(one: Salience) -> dict[str, float]:
    return dict(one.reasons)


ASKED = event(0, "prompt", "Please sum the prices of the cart.")


def test_every_passage_is_weighed_once_between_nothing_and_one_with_reasons_largest_first():
    found = weighed(*(event(n, "prompt", f"Prompt {n} about ropes. " * 30) for n in range(9)))
    assert len({each.chunk_id for each in found}) == len(found) == 9
    assert all(0.0 < each.score < 1.0 for each in found)
    for each in found:
        sizes = [abs(added) for _, added in each.reasons]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("events", "feature"),
    [
        ([event(1, "prompt", "From now on always use pnpm here.")], "pinned"),
        (
            [ASKED, event(1, "reply", "Done."), event(2, "prompt", "no, don't mock the database in these tests")],
            "correction",
        ),
        ([ASKED, *ran(1, "pytest -q", "3 passed", 0)], "outcome"),
        ([ASKED, *ran(1, "git commit -m sum", "1 file changed", 0)], "outcome"),
        ([ASKED, event(1, "reply", "The sum is right now."), event(2, "prompt", "perfect, thank you")], "outcome"),
        ([ASKED, event(1, "reply", "Root cause: the clock of `cart.py` is local time.")], "supports a fact"),
        (
            [
                ASKED,
                *ran(1, "npm test", "Error: Cannot find module 'left-pad'", 1),
                *ran(3, "npm install left-pad", "ok", 0),
                *ran(5, "npm test", "ok", 0),
            ],
            "error and fix",
        ),
    ],
    ids=["pinned", "correction", "tests pass", "commit", "approval", "fact", "error and fix"],
)
def test_what_matters_is_worth_more_and_says_why(events, feature):
    plain = max(each.score for each in weighed(ASKED, event(1, "reply", "The sum is there.")))
    best = max(weighed(*events), key=lambda each: reasons(each).get(feature, 0.0))
    assert reasons(best)[feature] > 0
    assert best.score > plain


def test_what_the_user_has_to_tell_again_weighs_more_than_what_is_told_once():
    said = event(1, "prompt", "We use pnpm here, as ever.")
    (once,), (again,) = weighed(said), weighed(said, again=True)
    assert "told again" in reasons(again)
    assert again.score > once.score


def test_a_note_is_pinned_and_a_sub_agents_task_is_not():
    said = event(1, "prompt", "Always deploy on Tuesdays.")
    (note,) = weighed(said, thread=Thread("notes", "n", "n"))
    (task,) = weighed(said, thread=Thread("codex", "s1", "s1/sub"))
    assert "pinned" in reasons(note)
    assert "pinned" not in reasons(task)


def test_names_that_no_other_passage_knows_are_new():
    known = count(["parse_totals load_cart sum_prices"] * 50 + ["other"] * 50)
    new, old = (
        weighed(event(1, "prompt", f"Look at {names} and tell me."), frequencies=known)[0]
        for names in ("berth_chart tide_table rope_ends crane_log pier_map", "parse_totals load_cart sum_prices")
    )
    assert reasons(new)["new names"] > 3 * reasons(old)["new names"]
    assert reasons(new)["new names"] <= WEIGHTS["new names"]


def test_what_a_program_prints_to_pass_the_time_is_worth_less():
    noise = "\n".join(f"Downloading package {n} of ropes" for n in range(9))
    (loud,) = weighed(ASKED, *ran(1, "make all", noise, 1))
    (calm,) = weighed(ASKED, *ran(1, "make all", "rope.c is twisted\nmast.c is bent", 1))
    assert reasons(loud)["noise"] < 0
    assert loud.score < calm.score


def test_what_follows_a_salient_passage_is_worth_a_little_more():
    later = [event(n, "prompt", f"Number {n}: and what of the ropes then?") for n in range(2, 5)]
    pulled = weighed(event(1, "prompt", "From now on always use pnpm here."), *later)
    alone = weighed(event(1, "prompt", "And what of the ropes and tackle?"), *later)
    gains = [with_it.score - without.score for with_it, without in zip(pulled[1:], alone[1:], strict=True)]
    assert all(gain > 0 for gain in gains)
    assert gains == sorted(gains, reverse=True)


def test_the_same_thread_weighs_the_same_every_time():
    events = [ASKED, *ran(1, "pytest -q", "3 passed", 0), event(3, "reply", "All tests pass.")]
    assert weighed(*events) == weighed(*events)
