"""Finds a word of ours in text however it is disguised: other widths and alphabets, accents, unseen characters, blanks.

Text is folded to what a careless reader sees in it, the folded text is searched, and the original is changed where the
find began and ended, character for character. Linear in the length of the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_DRAWN_ALIKE = {
    "<": "‹❮❰⟨〈«≪˂ᐸᚲ⧼❬ᑉ𝈶≺⋖",
    ">": "›❯❱⟩〉»≫˃ᐳ⧽❭ᑌ𝈷≻⋗",
    "/": "\\⁄∕⧸╱⟋∖᜵⁁Ⳇ〳丿㇓⧹╲",
    "[": "【〔⟦❲⁅⌈⌊「『〖〘〚",
    "]": "】〕⟧❳⁆⌉⌋」』〗〙〛",
    "-": "ー一ᅳㅡ۔ⲻ",
    "b": "вьъβϐƅᏏᏼбᑲꓐⲃß",
    "c": "сϲⅽᏟꓚⲥⅭ𐐽",
    "e": "еєεϵҽҿ℮⋿ꓰⴹᎬⲉәэ∊∈",
    "f": "ſẝẛϝքꓝᖴғ",
    "i": "іιıɩꙇᎥꭵ⍳ⲓɪ",
    "l": "ӏǀ∣ןⵏꓲᏞᒪꓡⳑ׀",
    "m": "мμϻᎷᗰꓟⲙᛖ",
    "r": "гᎡᏒᖇꓣⲅγᴦя",
}
_FOLDED = {char: plain for plain, chars in _DRAWN_ALIKE.items() for char in chars}
_OPENINGS = {
    "<": re.compile(rf"[<\u226e\u2280\u2329\ufe3f\ufe64\uff1c{_DRAWN_ALIKE['<']}]"),
    "[": re.compile(
        "[\\[\ufe17\ufe39\ufe3b\ufe41\ufe43\ufe47\ufe5d\uff3b\uff62\U0001f240-\U0001f248" + _DRAWN_ALIKE["["] + "]"
    ),
}
"""All that is folded to these two, so that most texts need not be folded at all."""
_DRAWN_AS_NOTHING = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Fillers and the empty braille pattern: letters and signs by their category, blanks to the eye."""
_LATIN = re.compile(r"\b(?:LATIN|REGIONAL INDICATOR)\b.*\bLETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?$")
_OTHER = "."


class _Folding(dict[int, str | None]):
    """For `str.translate`: each character is worked out when it is met first, and kept."""

    def __missing__(self, code: int) -> str | None:
        self[code] = folded = self._fold(chr(code)) or None  # None is dropped as "" is, and faster
        return folded

    def _fold(self, char: str) -> str:
        category = unicodedata.category(char)
        if char.isspace() or category[0] in "CZ" or category in ("Mn", "Me") or char in _DRAWN_AS_NOTHING:
            return ""
        for spelling in (char, char.lower()):
            if spelling in _FOLDED:
                return _FOLDED[spelling]
        if char.isascii():
            return char.lower()
        if (letter := _LATIN.search(unicodedata.name(char, ""))) is not None:
            return letter[1].lower()
        if (digit := unicodedata.digit(char, None)) is not None:
            return str(digit)
        parts = unicodedata.normalize("NFKD", char)
        if parts == char or len(parts) > 8:  # some signs stand for a whole sentence
            return _OTHER
        return "".join(self[ord(part)] or "" for part in parts)


_FOLDING = _Folding()


def folded(text: str) -> str:
    """What a careless reader sees: small plain letters, no blanks, nothing unseen; a dot for every other sign.

    >>> folded("＜/ ⓛⓜm‑Вrіеf>"), folded("l\u200bmm\u00ad_brïef"), folded("㎜ 灯")
    ('</lmm.brief>', 'lmm_brief', 'mm.')
    """
    return text.translate(_FOLDING)


@dataclass(frozen=True, slots=True)
class Find:
    """One find, in the original text."""

    start: int
    """Where its first character stands."""
    last: int
    """Where its last character stands."""


def finds(opening: str, rest: str, text: str) -> Iterator[Find]:
    """Search the folded text for `opening`, which is `<` or `[`, and the pattern `rest`; tell where the finds stand in `text`."""
    if _OPENINGS[opening].search(text) is None:
        return
    pattern = re.compile(re.escape(opening) + rest)
    seen = folded(text)
    if pattern.search(seen) is None:  # nearly always
        return
    origins = [at for at, char in enumerate(text) for _ in _FOLDING[ord(char)] or ""]
    for found in pattern.finditer(seen):
        yield Find(origins[found.start()], origins[found.end() - 1])
