"""The invented user whose lessons a placebo learns: facts as the product asks for them, none of which anybody could guess."""

from trainer import stranger


def test_a_placebo_learns_facts_in_the_words_of_the_product_and_to_name_lines():
    found = stranger.of_placebo()
    by_heart = [each for each in found if each.slice == "fact"]
    assert len({each.memory for each in by_heart}) == stranger.NUM_FACTS
    assert all(each.family.startswith("train/") for each in by_heart)
    assert len({each.answer for each in by_heart}) > stranger.NUM_FACTS, "values that are seldom alike"
    assert {each.slice for each in found} == {"fact", "choice", "brief"}


def test_it_is_the_same_user_every_time_and_no_other_users_projects_are_theirs():
    assert stranger.of_placebo() == stranger.of_placebo()
    mine, other = ({each.project for each in stranger.facts(user, 40)} for user in (stranger.PLACEBO, "u1"))
    assert not mine & other


def test_what_is_asked_by_heart_does_not_hold_its_answer():
    for each in stranger.of_placebo():
        if each.slice == "fact" and "/forward/" in each.family:
            assert each.answer not in each.prompt
