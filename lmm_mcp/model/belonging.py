"""Whether a value stands with the words it belongs to: two ports in one line must not change places in what is told of it. Pure."""

import itertools
import re
from collections.abc import Sequence

from lmm_mcp.model.polarity import is_turning, opposites_of
from lmm_mcp.model.specifics import PROGRAMS, Token, stem
from lmm_mcp.store.terms import STOP_WORDS

NEAR = 6
"""Words around a value that tell what it is a value of."""
ELSEWHERE = 0.3
"""Weight of words in another clause than the value's."""
WEIGHT_of_names = 2.0
"""A name says more of what a value belongs to than a word."""
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
    place file files command work works time times""".split()
)
"""Words that tell a story and claim nothing by themselves."""
_BE = frozenset("is are was were be been being get gets got".split())
_OLD = frozenset(
    "from formerly previously old instead was were until not than former originally initially replaces replaced replacing".split()
)


def misplaced(said: Sequence[Token], known: Sequence[Sequence[Token]]) -> str:
    """A value that its lines tell of something else: another one of its kind stands nearer to the words around it."""
    for at, token in enumerate(said):
        if not token.is_value and token.stem not in PROGRAMS and not is_turning(token.stem):
            continue
        for line in known:
            rivals = {
                other.text if other.is_value else other.stem
                for other in line
                if other.kind == token.kind and _shape(other) == _shape(token) and _is_rival(token, other)
                if bool(_unit(line, other)) == bool(_unit(said, token))
            }
            for rival in rivals:
                if (why := _fits_better(at, said, line, rival)) is not None:
                    return why
    return ""


def turned_about(said: Sequence[Token], known: Sequence[Sequence[Token]]) -> str:
    """`from A to B` where the lines say `from B to A`; '' where nothing is."""
    came, went = _ends(said)
    for line in known:
        began, ended = _ends(line)
        if wrong := (came & ended - began) | (went & began - ended):
            return f"goes from or to {min(wrong)!r} where its lines go the other way"
    return ""


def _ends(line: Sequence[Token]) -> tuple[set[str], set[str]]:
    """What stands behind `from`, and behind `to`."""
    ends: dict[str, set[str]] = {"from": set(), "to": set()}
    for at, token in enumerate(line):
        if (of := ends.get(token.text.lower().replace("into", "to"))) is not None:
            after = (each for each in line[at + 1 : at + 4] if each.is_value or each.text.lower() not in STOP_WORDS)
            of.update(each.stem for each in itertools.islice(after, 1))
    return ends["from"], ends["to"]


def _is_rival(token: Token, other: Token) -> bool:
    if token.is_value:
        return token.text != other.text
    if token.stem in PROGRAMS:
        return other.stem in PROGRAMS and token.stem != other.stem
    return other.stem in opposites_of(token.stem)


def _unit(line: Sequence[Token], token: Token) -> str:
    """What a number counts, '' where nothing says so."""
    after = next((after for one, after in itertools.pairwise(line) if one == token), None)
    return after.text if after is not None and after.kind == "unit" else ""


def _shape(token: Token) -> str:
    """What a value looks like: only what looks alike is mixed up."""
    if not token.is_value or token.kind == "number":
        return ""
    if token.text.startswith("-"):
        return "flag"
    if token.text.isalpha() and token.text.isupper():
        return "capitals"
    return "path" if "/" in token.text else "dotted" if re.search(r"\w[.:]\w", token.text) else "name"


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
        before_here = _before(said, at)
        is_before_mine = before_here in {_before(line, n) for n in mine}
        is_before_theirs = before_here in {_before(line, n) for n in theirs}
        if before_here and is_before_mine and not is_before_theirs:
            return None
        if before_here and is_before_theirs and not is_before_mine:
            return f"gives {token.text!r} the place of {rival!r}"
    if not token.is_value and token.stem not in PROGRAMS:
        return _turns_another(at, said, line, mine, theirs)
    score_mine = score_theirs = 0.0
    for n, word in enumerate(said):
        if n == at or abs(n - at) > NEAR or word.clause != said[at].clause or word.kind == "number":
            continue
        if word.kind != "cjk" and (word.text.lower() in STOP_WORDS or word.stem in LIGHT):
            continue
        places = [m for m, each in enumerate(line) if each.stem == word.stem]
        if places:
            weight = WEIGHT_of_names if word.is_value else 1.0
            score_mine += weight * max(_closeness(line, m, place) for m in mine for place in places)
            score_theirs += weight * max(_closeness(line, m, place) for m in theirs for place in places)
    if score_theirs > MISPLACED * score_mine and score_theirs > 0:
        return f"gives {token.text!r} the place of {rival!r}"
    return None


def _turns_another(
    at: int, said: Sequence[Token], line: Sequence[Token], mine: Sequence[int], theirs: Sequence[int]
) -> str | None:
    """Whether `on` or `enable` is said of what the line says `off` or `disable` of: the word nearest to it decides."""
    near = sorted(
        (_reach(said, at, n), n)
        for n, word in enumerate(said)
        if n != at
        and word.clause == said[at].clause
        and not is_turning(word.stem)
        and (word.is_value or (word.text.lower() not in STOP_WORDS and word.stem not in LIGHT))
        and any(each.stem == word.stem for each in line)
    )
    if not near:
        return None
    places = [m for m, each in enumerate(line) if each.stem == said[near[0][1]].stem]
    if any(place - m == near[0][1] - at for m in mine for place in places):  # as in the line
        return None
    to_mine = min(_reach(line, m, place) for m in mine for place in places)
    to_theirs = min(_reach(line, m, place) for m in theirs for place in places)
    if to_mine > MISPLACED * to_theirs:
        return f"says {said[at].text!r} of {said[near[0][1]].text!r}, of which its lines say the opposite"
    return None


def _reach(line: Sequence[Token], one: int, other: int) -> int:
    """How far a word is from one that turns it round: `disabled the cache` and `the cache was disabled` are both near."""
    is_passive = one > 0 and line[one - 1].text.lower() in _BE and line[one].text.lower() not in STOP_WORDS
    distance = abs(one - other)
    return distance if (other < one) == is_passive else distance + 2


def _closeness(line: Sequence[Token], one: int, other: int) -> float:
    is_beside = line[one].clause == line[other].clause
    return (1.0 if is_beside else ELSEWHERE) / (1 + abs(one - other) / 10)


def _is_called_old(line: Sequence[Token], at: int) -> bool:
    near = [each.text.lower() for each in line[max(0, at - 2) : at] if each.clause == line[at].clause]
    return any(word in _OLD for word in near)


def _before(line: Sequence[Token], at: int) -> str:
    """The small word before a value: from, to, at, before ..."""
    if at and line[at - 1].kind == "word" and line[at - 1].text.lower() in STOP_WORDS:
        return line[at - 1].text.lower()
    return ""
