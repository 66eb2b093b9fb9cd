"""Whether a value stands with the words it belongs to: two ports in one line must not change places in what is told of it. Pure."""

from collections.abc import Sequence

from lmm_mcp.model.polarity import is_turning, opposites_of
from lmm_mcp.model.specifics import Token
from lmm_mcp.store.terms import STOP_WORDS, stem

NEAR = 6
"""Words around a value that tell what it is a value of."""
MISPLACED = 1.5
"""How much better another value must fit to the words around a value than itself."""
LIGHT = frozenset(
    stem(word)
    for word in """use using used is was were be being been has had have get gets got say says said tell tells told decide decided agreed
    choose chose chosen pick picked prefer want need must should may might would could can will shall set run ran make made do did
    does done keep kept put go goes went give gave take took find found see saw show showed know known mean means call called
    name named mention mentioned note noted state stated report reported happen happened come came cause caused lead led let
    because since therefore thus hence so also now then currently today already still only just mostly there here it its they
    them that this these those which who what where when how why one ones thing things way case reason value user agent person
    team project session line lines earlier later instead according per via within for with from into of to at by on in as and or
    live lives stand stands lie lies reside belong hold holds contain contains become became turn out end ended serve serves
    place file files command work works""".split()
)
"""Words that tell a story and claim nothing by themselves."""
_OLD = frozenset(
    "from formerly previously old instead was were until not than former originally initially replaces replaced replacing".split()
)


def misplaced(said: Sequence[Token], known: Sequence[Sequence[Token]]) -> str:
    """A value that its lines tell of something else: another one of its kind stands nearer to the words around it."""
    for at, token in enumerate(said):
        if not token.is_value and not is_turning(token.stem):
            continue
        for line in known:
            rivals = {
                other.text if other.is_value else other.stem
                for other in line
                if other.kind == token.kind and _is_rival(token, other)
            }
            for rival in rivals:
                if (why := _fits_better(at, said, line, rival)) is not None:
                    return why
    return ""


def _is_rival(token: Token, other: Token) -> bool:
    if token.is_value:
        return token.text != other.text
    return other.stem in opposites_of(token.stem)


def _fits_better(at: int, said: Sequence[Token], line: Sequence[Token], rival: str) -> str | None:
    token = said[at]
    name = token.text if token.is_value else token.stem
    mine = [n for n, each in enumerate(line) if (each.text if token.is_value else each.stem) == name]
    theirs = [n for n, each in enumerate(line) if (each.text if token.is_value else each.stem) == rival]
    if not mine or not theirs:
        return None
    spoken = {each.text if token.is_value else each.stem for each in said}
    if token.is_value and rival not in spoken:
        # `from 5432 to 5433`: only the old value is told, and not as one.
        olds = [n for n in mine if _is_called_old(line, n)]
        is_old = len(olds) == len(mine) and not any(_is_called_old(line, n) for n in theirs)
        if is_old and not any(each.text.lower() in _OLD for each in said):
            return f"tells {token.text!r}, which its lines call the old value"
    if rival in spoken and token.is_value:
        there = [each.text if token.is_value else each.stem for each in said]
        if (there.index(name) < there.index(rival)) == (min(mine) < min(theirs)):
            return None
        before_here, before_there = _before(said, at), {_before(line, n) for n in theirs}
        if _before(said, at) and before_here in {_before(line, n) for n in mine}:
            return None
        if before_here and before_here in before_there:
            return f"gives {token.text!r} the place of {rival!r}"
    score_mine = score_theirs = 0.0
    for n, word in enumerate(said):
        distance = abs(n - at)
        if not 0 < distance <= NEAR or word.clause != said[at].clause or word.is_value:
            continue
        if word.kind != "cjk" and (word.text.lower() in STOP_WORDS or word.stem in LIGHT):
            continue
        places = [m for m, each in enumerate(line) if each.stem == word.stem]
        if places:
            score_mine += 1 / distance / max(1, min(abs(m - place) for m in mine for place in places))
            score_theirs += 1 / distance / max(1, min(abs(m - place) for m in theirs for place in places))
    if score_theirs > MISPLACED * score_mine and score_theirs > 0:
        return f"gives {token.text!r} the place of {rival!r}"
    return None


def _is_called_old(line: Sequence[Token], at: int) -> bool:
    near = [each.text.lower() for each in line[max(0, at - 2) : at] if each.clause == line[at].clause]
    return any(word in _OLD for word in near)


def _before(line: Sequence[Token], at: int) -> str:
    """The small word before a value: from, to, at, before ..."""
    if at and line[at - 1].kind == "word" and line[at - 1].text.lower() in STOP_WORDS:
        return line[at - 1].text.lower()
    return ""
