"""What sessions asked, posed to the memory of before and of after: nothing later is used."""

from trainer import questions

LONG_AFTER_ms = 1_790_000_000_000
FIRST_OF_MARCH_ms = 1_772_323_200_000


def asked(bakery, until_ms: int = LONG_AFTER_ms) -> list[questions.Need]:
    return questions.needs_of(bakery.ledger, bakery.archive, until_ms)


def test_a_later_prompt_needs_what_was_used_then_and_known_before(bakery):
    (need,) = [n for n in asked(bakery) if n.kind == "prompt" and not n.is_retold and "again" in n.text]
    assert {"oven_curve.py", "heat_sensor.py", "uv run pytest -q"} <= set(need.items)
    assert need.until_ms < need.at_ms


def test_the_same_prompt_is_posed_again_when_its_own_session_can_answer(bakery):
    before, after = (
        {n.text: set(n.items) for n in asked(bakery) if n.kind == "prompt" and n.is_retold is retold}
        for retold in (False, True)
    )
    first = next(text for text in after if text.startswith("the crust of the rye loaf burns"))
    assert first not in before, "before the first session nothing was known"
    assert "heat_sensor.py" in after[first]


def test_a_mended_error_is_a_question_whose_answer_is_what_mended_it(bakery):
    (error,) = [n for n in asked(bakery) if n.kind == "error" and not n.is_retold]
    assert error.text.startswith("TypeError: clamp_heat got an unexpected")
    assert "heat_sensor.py" in error.items


def test_a_file_is_asked_for_by_its_name_alone(bakery):
    files = {n.text for n in asked(bakery) if n.kind == "edit"}
    assert {"src/oven_curve.py", "web/loaf_list.ts"} <= files


def test_a_session_that_ended_later_asks_nothing(bakery):
    texts = [n.text for n in asked(bakery, FIRST_OF_MARCH_ms)]
    assert texts and not any("MARCHHARE" in text for text in texts)


def test_who_asked_can_be_forgotten(bakery):
    assert all(n.threads and n.threads[0][0] == "claude-code" for n in asked(bakery))
