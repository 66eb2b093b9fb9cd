"""What the records of Kimi Code's wire are called, and what its tools give back."""

import re
from collections.abc import Mapping

from ingest.readers.outputs import output_text
from ingest.readers.values import exit_code_in

_BOOKKEEPING = frozenset(
    """metadata config.update profile.bind usage.record llm.request llm.response context.update_token_count context.clear
    turn.started turn.ended turn.cancel turn.steer turn.step.started turn.step.completed turn.step.retrying forked plan.revision
    skill.activate task.started task.terminated micro_compaction.apply""".split()
)
_AREAS = frozenset("tools mcp goal plan_mode permission full_compaction file_history cron swarm_mode todo".split())
"""What stands before the dot in records of state."""
_EXIT_CODE = re.compile(r"Command failed with exit code:? (-?\d+)")
_LOOKED_AT_chars = 400


def is_bookkeeping(kind: object) -> bool:
    """Whether a record says nothing of what was said or done.

    >>> is_bookkeeping("permission.set_mode"), is_bookkeeping("usage.record"), is_bookkeeping("tide.turned")
    (True, True, False)
    """
    return isinstance(kind, str) and (kind in _BOOKKEEPING or kind.partition(".")[0] in _AREAS)


def result_text(result: object) -> str:
    r"""The output of a tool, and what Kimi notes of it (cut short, refused).

    >>> result_text({"output": "3 passed", "note": "cut"}), result_text({"output": [{"type": "text", "text": "a"}]})
    ('3 passed\n[cut]', 'a')
    """
    if not isinstance(result, Mapping):
        return output_text(result)
    text = output_text(result.get("output"))
    note = result.get("note")
    return f"{text}\n[{note}]" if isinstance(note, str) and note else text


def exit_code_of(text: str) -> int | None:
    r"""The exit code that a shell's output ends with; None where it ends with none.

    >>> exit_code_of("no such file\nCommand failed with exit code: 2."), exit_code_of("done")
    (2, None)
    """
    found = _EXIT_CODE.search(text, max(0, len(text) - _LOOKED_AT_chars))
    return exit_code_in(found[1]) if found else None
