"""Odd arguments are refused in a short sentence that says what to write instead; none of them is a crash."""

from datetime import UTC, datetime

import pytest
from mcp import Client

from lmm_mcp.errors import BadInput
from lmm_mcp.server import asking
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.tools import build_server

pytestmark = pytest.mark.anyio

ID = "0123456789abcdef"
ENDLESS = "x" * 100_000
NUMBER = 10**5000


@pytest.fixture
def desk(harbour, harbour_env) -> Desk:
    return Desk(harbour, harbour_env, cwd="/home/mira/harbour")


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        *(
            ("expand", {"ids": [ID], name: value}, f"{name} is ")
            for name in ("before", "after")
            for value in (
                float("inf"),
                float("-inf"),
                float("nan"),
                1.5,
                True,
                "many",
                [2],
                {},
                -1,
                51,
                NUMBER,
                ENDLESS,
            )
        ),
        *(
            ("recall", {"query": "port", "budget_tokens": value}, "budget_tokens is ")
            for value in (float("inf"), float("nan"), 99.5, True, [100], NUMBER, ENDLESS, "9" * 5000)
        ),
        *(
            ("recall", {"query": "port", "project": value}, "project")
            for value in ("~nouser/x", "~/none\x00", "/" + ENDLESS, ENDLESS, NUMBER, ["shop"], "\x1b[31m./x")
        ),
        *(
            ("recall", {"query": "port", name: value}, f"{name} is ")
            for name in ("since", "until")
            for value in ("2026-13", "0000-01", "2026-02-30", "9999-12-32", ENDLESS, NUMBER, True, "99999-01-01")
        ),
        ("recall", {"query": "port", "agent": ENDLESS}, "there is no agent"),
        ("recall", {"query": "port", "agent": NUMBER}, "there is no agent"),
        ("recall", {"query": "port", "since": "1d", "until": "9" + " " * 9000 + "d"}, "lies after until"),
        ("expand", {"ids": [ENDLESS]}, "unknown id"),
        ("expand", {"ids": [NUMBER]}, "unknown id"),
    ],
)
def test_an_odd_argument_is_refused_in_a_short_sentence(desk, tool, arguments, told):
    arguments = dict(arguments)
    with pytest.raises(BadInput, match=told) as refusal:
        desk.recall(arguments.pop("query"), **arguments) if tool == "recall" else desk.passages(
            arguments.pop("ids"), **arguments
        )
    assert len(str(refusal.value)) < 400
    assert str(refusal.value).isprintable()


async def test_the_tools_say_so_too(desk, era):
    async with Client(build_server(desk), mode=era) as client:
        for arguments in ({"before": 1.5}, {"after": True}):
            reply = await client.call_tool("expand", {"ids": [ID], **arguments})
            assert reply.is_error
            assert "must be a whole number from 0 to 50" in reply.content[0].text
        reply = await client.call_tool("recall", {"query": "port", "project": "~nouser/x"})
        assert reply.is_error
        assert "no project '~nouser/x' is known" in reply.content[0].text


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 "])
def test_a_whole_number_may_be_written_in_several_ways(value):
    assert asking.whole_number(value) == 3


def test_the_last_month_that_can_be_written_is_a_time_like_every_other():
    now_ms = 1_772_000_000_000
    for text, last in (("9999-12", (9999, 12, 31)), ("2024-02", (2024, 2, 29)), ("2026-04", (2026, 4, 30))):
        _, until_ms = asking.checked_times(None, text, now_ms)
        assert until_ms == int(datetime(*last, 23, 59, 59, tzinfo=UTC).timestamp()) * 1000 + 999
