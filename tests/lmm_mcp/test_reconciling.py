"""What holds when sessions disagree: newer and at least as trusted wins, and what is forgotten was never said."""

from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.relations import RELATIONS, said
from lmm_mcp.store.reconciling import reconcile

DAY_ms = 86_400_000


def told(
    value: str, day: int, role: str = "user", relation: str = "port", subject: str = "redis", session: str = ""
) -> Fact:
    name = session or f"s{day}-{role}"
    evidence = Evidence("codex", name, name, Span(f"e{day}", 0, 9), role, day * DAY_ms)
    about = RELATIONS[relation]
    text = said(relation, value, subject)
    return Fact(
        "shop", about.category, relation, subject, value, text, (evidence,), day * DAY_ms, volatility=about.volatility
    )


def holding(*facts: Fact) -> set[str]:
    return {fact.value for fact in reconcile(facts) if fact.holds}


def test_what_is_said_later_takes_the_place_of_what_was_said_before():
    older, newer = reconcile([told("6379", 1), told("6380", 5)])
    assert (older.value, older.until_ms, older.superseded_by) == ("6379", 5 * DAY_ms, newer.id)
    assert newer.holds


def test_the_order_in_which_sessions_were_read_does_not_matter():
    facts = [told("6379", 1), told("6380", 5), told("6379", 3, "output"), told("6381", 7, "agent")]
    assert reconcile(facts) == reconcile(reversed(facts))


def test_an_agent_never_overrides_what_a_person_said_or_what_was_seen():
    assert holding(told("6379", 1), told("9999", 5, "agent")) == {"6379"}
    assert holding(told("6379", 1, "output"), told("9999", 5, "agent")) == {"6379"}
    (never,) = [fact for fact in reconcile([told("6379", 1), told("9999", 5, "agent")]) if fact.value == "9999"]
    assert never.superseded_by == told("6379", 1).id


def test_a_person_overrides_what_was_seen_and_what_was_seen_overrides_an_agent():
    assert holding(told("6379", 1, "output"), told("6380", 5)) == {"6380"}
    assert holding(told("6379", 1, "agent"), told("6380", 5, "output")) == {"6380"}


def test_a_note_does_not_override_a_person():
    assert holding(told("6379", 1), told("9999", 5, "note")) == {"6379"}


def test_a_value_that_comes_back_holds_again():
    assert holding(told("6379", 1), told("6380", 3), told("6379", 5)) == {"6379"}


def test_what_is_said_of_another_subject_or_project_stands_beside_it():
    assert holding(told("6379", 1), told("5432", 5, subject="postgres")) == {"6379", "5432"}


def test_of_a_relation_that_takes_several_values_all_hold():
    facts = [told("npm test", 1, "command", "test command", ""), told("npm run e2e", 5, "command", "test command", "")]
    assert holding(*facts) == {"npm test", "npm run e2e"}


def test_what_must_not_be_used_any_more_is_not_used_and_the_other_way_round():
    npm = told("npm", 1, "command", "package manager", "javascript")
    ban = told("npm", 5, "user", "avoids", "")
    facts = {fact.relation: fact for fact in reconcile([npm, ban])}
    assert (facts["package manager"].superseded_by, facts["avoids"].holds) == (ban.id, True)
    facts = {fact.relation: fact for fact in reconcile([ban, told("npm", 9, "user", "uses", "")])}
    assert (facts["avoids"].holds, facts["uses"].holds) == (False, True)
    facts = {
        fact.relation: fact for fact in reconcile([ban, told("npm", 9, "command", "package manager", "javascript")])
    }
    assert (facts["avoids"].holds, facts["package manager"].holds) == (True, False)


def test_sessions_make_sure_and_mentions_within_one_do_not():
    once, twice = told("6379", 1, session="s1"), told("6379", 2, session="s1")
    other = told("6379", 3, session="s2")
    (alone,), (mentioned,), (shared,) = reconcile([once]), reconcile([once, twice]), reconcile([once, twice, other])
    assert alone.confidence == mentioned.confidence < shared.confidence <= 0.99
    assert (shared.num_sessions, shared.from_ms) == (2, 1 * DAY_ms)
    (by_agent,) = reconcile([told("6379", 1, "agent")])
    assert by_agent.confidence < alone.confidence


def test_without_the_session_that_replaced_it_a_value_holds_again():
    facts = [told("6379", 1), told("6380", 5)]
    assert holding(*facts) == {"6380"}
    assert holding(*facts[:1]) == {"6379"}
