"""What a user's remark is: a correction denies or replaces what was done before it, anything else is none."""

import pytest

from lmm_mcp.recall import remarks

CORRECTIONS = (
    "No, the port has to be 5433.",
    "don't touch the migrations folder",
    "use pnpm instead of npm, please",
    "that's wrong, the total includes tax",
    "Revert the change to the login page.",
    "hmm, that's not what I asked for, I only wanted the tests fixed",
    "No. Use ruff, we dropped flake8.",
    "you forgot to update the changelog",
    "Thanks, but the button should stay on the left, undo that part",
    "Wait, we never store passwords in the session, take that out",
    "revert that",
    "不对，端口应该是 5433",
    "不要用 npm，改用 pnpm",
    "撤销刚才的修改",
)
OTHERS = (
    "thanks, looks good",
    "No problem, take your time with the tests.",
    "great, now add a test for the empty cart",
    "ok, let's commit this and move on",
    "Actually, that looks really nice, thank you.",
    "never mind, it works now",
    "No more questions from my side, merge it.",
    "why did you choose sqlite here?",
    "perfect, that's exactly what I wanted",
    "I asked the team and they are happy with it",
    "do not worry about the warning",
    "Stop here for today, we continue tomorrow.",
    "不错，就这样吧",
    "别担心，测试已经通过了",
)
UNSEEN_CORRECTIONS = (
    "Nope, still the wrong colour, it must be the blue of the logo.",
    "please do not rename public functions",
    "that is not right: invoices are sent on Mondays",
    "I said three retries, not five.",
    "Go back to the old layout, this one is unreadable.",
    "Not there, put the helper next to the parser.",
    "actually keep the feature flag off by default",
    "you misunderstood, the timeout is per request",
    "Good start, but use a queue instead of a thread.",
    "Undo the last commit please.",
    "stop adding comments to every line",
    "The date format is wrong, we use ISO everywhere.",
    "错了，应该用 UTC 时间",
    "我说的是登录页面，不是首页",
)
"""No rule was made for these; nor for the ones below."""
UNSEEN_OTHERS = (
    "looks good to me, ship it",
    "No changes needed, thanks a lot!",
    "Nice work. Next, write the docs for the export command.",
    "not bad at all, the page loads twice as fast",
    "Can you explain how the cache is filled?",
    "wait for the build to finish, then deploy it",
    "Rather elegant, I like it.",
    "i said yes to the review already",
    "No idea why it failed yesterday, today it is green.",
    "It should be deployed by tonight, thanks.",
    "That's not a problem for us, go ahead.",
    "Well done, the wrong totals are gone.",
    "没问题，继续下一步",
    "谢谢，看起来不错",
)


@pytest.mark.parametrize("text", CORRECTIONS)
def test_what_denies_or_replaces_is_a_correction(text):
    assert remarks.correction(text) == text


@pytest.mark.parametrize("text", OTHERS)
def test_thanks_questions_and_next_steps_are_none(text):
    assert remarks.correction(text) == ""


def test_most_remarks_that_no_rule_was_made_for_are_told_apart():
    assert sum(map(bool, map(remarks.correction, UNSEEN_CORRECTIONS))) >= 13
    assert sum(map(bool, map(remarks.correction, UNSEEN_OTHERS))) <= 2


def test_a_correction_may_stand_behind_thanks_and_is_told_without_them():
    assert (
        remarks.correction("Thanks, looks good! Don't rename the parser though.") == "Don't rename the parser though."
    )


def test_an_agreement_that_names_what_was_chosen_is_a_decision_and_agreed_alone_is_none():
    assert remarks.decisions("agreed, we go with Redis", by_user=True) == ["agreed, we go with Redis"]
    assert remarks.decisions("agreed, please do that now", by_user=True) == []


def test_what_is_too_short_to_stand_alone_is_told_with_the_sentence_beside_it():
    assert remarks.correction("Drop it. That's not our job. And add tests.") == "Drop it. That's not our job."


def test_chinese_is_a_sentence_without_a_blank():
    assert remarks.headline("购物车的总价为什么不对？") == "购物车的总价为什么不对？"
    assert remarks.headline("好的") == ""
