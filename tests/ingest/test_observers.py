"""Sessions of other memory tools are told from sessions of people who speak about them."""

import pytest

from ingest.observers import is_observer
from lmm_mcp.domain.event import Event, Thread


def held(text: str, cwd: str = "/work/harbour") -> bool:
    events = [Event("0", "reply", "Ready.", 0), Event("1", "prompt", text, 0), Event("2", "prompt", "And now?", 0)]
    return is_observer(Thread("claude-code", "s1", "s1", cwd=cwd), events)


@pytest.mark.parametrize(
    "text",
    [
        "You are a Claude-Mem, a specialized observer tool for creating searchable memory FOR FUTURE SESSIONS.\n\nCRITICAL: ...",
        "Hello memory agent, you are continuing to observe the primary Claude session.\n<observed_from_primary_session>",
        "\nContext: This summary will be shown in a list to help users and Claude choose which conversations are relevant.",
        "You are a third-person note-taker. You will receive a transcript of ONE conversation turn.",
        "Sum it up. <INSTRUCTIONS-TO-EPISODIC-MEMORY>DO NOT INDEX THIS CHAT</INSTRUCTIONS-TO-EPISODIC-MEMORY>",
    ],
)
def test_a_session_that_a_memory_tool_opened_is_known_by_its_first_words(text):
    assert held(text)


@pytest.mark.parametrize(
    "text",
    [
        "Why does claude-mem fill my disk? It says 'You are a Claude-Mem, a specialized observer tool' in every file.",
        "Write a third-person note-taker for meetings.",
        "Context: the harbour office. This summary will be shown in a list.",
        "What does DO NOT INDEX THIS CHAT mean in episodic-memory?",
        "Remove the observer-sessions folder of claude-mem, please.",
        "",
    ],
)
def test_a_person_who_speaks_about_memory_tools_is_none(text):
    assert not held(text)


@pytest.mark.parametrize(
    ("cwd", "is_one"),
    [
        ("/home/mira/.claude-mem/observer-sessions", True),
        ("C:\\Users\\Mira\\.claude-mem\\observer-sessions", True),
        ("/home/mira/.totalrecall/observer-sessions/a", True),
        ("/work/claude-mem", False),
        ("/work/astronomy/observer-sessions", False),
    ],
)
def test_a_session_in_a_tools_own_folder_is_known_by_it(cwd, is_one):
    assert held("Look at this.", cwd) == is_one


def test_only_the_first_prompt_counts():
    first = Event("1", "prompt", "Fix the crane.", 0)
    later = Event("2", "prompt", "You are a third-person note-taker. Or so the tool says.", 0)
    assert not is_observer(Thread("codex", "s", "s"), [first, later])
