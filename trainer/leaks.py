"""The words of frozen probes, found wherever they stand in what would be trained on. Pure.

Words are compared without case, marks and line ends. A short question is in too many mouths to be a probe's own: it counts only
with its answer right behind it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lmm_mcp.domain.lesson import Probe

OWN_WORDS = 5
"""Of so many words a question is taken for a probe's own."""
_HEAD = 3
_QUESTION = re.compile(r"^Question: (.*)$", re.MULTILINE)
_CJK = "぀-ヿ㐀-䶿一-鿿가-힯豈-﫿"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
"""Chinese, Japanese and Korean put no blanks between words: there each character counts as one."""


def question_of(prompt: str) -> str:
    r"""What a rendered prompt asks, '' where it asks nothing.

    >>> question_of("Project: shop\nQuestion: which port?\nAnswer:")
    'which port?'
    """
    found = _QUESTION.search(prompt)
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Wordings:
    """What stands in nothing that is trained on."""

    _by_head: Mapping[tuple[str, ...], tuple[tuple[str, ...], ...]]
    """Stretches of words by their first three."""

    @classmethod
    def of(cls, probes: Iterable[Probe]) -> "Wordings":
        """Of each probe its question, or where that is short, its question with each of its answers."""
        found: dict[tuple[str, ...], dict[tuple[str, ...], None]] = defaultdict(dict)
        for each in probes:
            asked = _words(question_of(each.prompt))
            answers = [_words(answer) for answer in each.answers]
            with_answers = [(*asked, *between, *answer) for answer in answers for between in ((), ("answer",))]
            for stretch in [asked] if len(asked) >= OWN_WORDS else with_answers:
                if asked and len(stretch) >= _HEAD:
                    found[stretch[:_HEAD]][stretch] = None
        return cls({head: tuple(stretches) for head, stretches in found.items()})

    def stand_in(self, text: str) -> bool:
        """Whether one of them stands in a text as it is."""
        words = _words(text)
        heads = zip(words, words[1:], words[2:], strict=False)
        return any(
            words[at : at + len(each)] == each for at, head in enumerate(heads) for each in self._by_head.get(head, ())
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))
