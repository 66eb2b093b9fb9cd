"""What was weighed against what in a few messages, and to which of the two somebody agreed: a decision with its alternative. Pure.

"Agreed, we go with Redis" says more beside "we are torn between Redis and Postgres" than alone; "agreed" alone decides nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from ingest import cues
from ingest.naming import NAME, named
from ingest.prose import Sentence, sentences
from lmm_mcp.domain.event import Event

MAX_MESSAGES = 6
"""Between what was weighed and the agreement."""
_BEHIND = "and|or|for|as|to|in|on|at|by|of|with|here|there|now|then|this|that|it|when|because|but|so|instead"
_OPTION = rf"(?:the |an? |using |use )?(?P<{{}}>`[^`\n]{{{{2,40}}}}`|[\w./+#@-]+(?: (?!(?:{_BEHIND})\b)[\w./+#@-]+){{{{0,2}}}})"
"""Up to three words, or what stands as code."""
_TORN = re.compile(
    rf"\b(?:torn|choose|choosing|choice|decide|deciding|undecided|hesitat\w+|toss-up) between {_OPTION.format('one')} and {_OPTION.format('other')}",
    re.IGNORECASE,
)
_EITHER = re.compile(
    rf"(?P<one>{NAME}) (?:or|vs\.?|versus) (?:use )?(?P<other>{NAME})|(?P<one_cjk>{NAME})\s*(?:还是|或者?)\s*用?\s*(?P<other_cjk>{NAME})",
    re.IGNORECASE,
)
_AGREED = re.compile(
    r"^(?:(?:agreed|ok(?:ay)?|yes|yeah|right|fine|sure|settled|done|deal|good|alright|great|so|then)\b[,.!:;— -]*)*"
    r"(?:we|i|let(?:'|’)?s)?(?:(?:'|’)(?:ll|re|m)| will| are| am)? ?(?:go(?:ing)? (?:with|for)|take|use|pick|choose|stick (?:with|to)|settle on) (?:the |an? )?"
    r"|^(?:好的?|行|同意|可以|嗯)?[，,。 ]*(?:那)?(?:我们)?就?(?:用|选|定)\s*(?:了\s*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Two things between which somebody had to choose, and where that was said."""

    options: tuple[str, str]
    event: Event
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """A sentence that chooses one of what was weighed."""

    said: Sentence
    alternative: str
    weighed: Weighed


class Listener:
    """Hears the messages of one thread in their order."""

    def __init__(self) -> None:
        self._weighed: list[tuple[int, Weighed]] = []
        self._heard = 0

    def hear(self, event: Event, *, by_person: bool) -> list[Agreement]:
        """What a message agrees to, which a person alone can; and keep in mind what it weighs."""
        agreed: list[Agreement] = []
        self._heard += 1
        self._weighed = [each for each in self._weighed if each[0] >= self._heard - MAX_MESSAGES]
        for said in sentences(event.text):
            if by_person and not said.is_question and not cues.HEDGED.search(said.text):
                agreed += self._agreed(said)
            if (options := _options_in(said.text)) is not None:
                self._weighed.append((self._heard, Weighed(options, event, said.start, said.start + len(said.text))))
        return agreed

    def _agreed(self, said: Sentence) -> Iterator[Agreement]:
        if (found := _AGREED.match(said.text)) is None:
            return
        for _, each in reversed(self._weighed):
            one, other = (_words_in_common(said.text[found.end() :], option) for option in each.options)
            if one != other:
                yield Agreement(said, each.options[one > other], each)
                return


def _words_in_common(text: str, option: str) -> int:
    """With how many words of an option a text begins."""
    pairs = zip(re.findall(r"[\w+#@/.-]*[\w+#]", text.casefold()), option.casefold().split(), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _options_in(text: str) -> tuple[str, str] | None:
    if (torn := _TORN.search(text)) is not None:
        return torn["one"].strip("`"), torn["other"].strip("`.")
    for found in _EITHER.finditer(text):
        one, other = (named(found[each] or found[f"{each}_cjk"]) for each in ("one", "other"))
        if one and other:
            return one, other
    return None
