"""Text to search terms: the one analysis that index and question share. It understands code.

`getUserName`, `get_user_name`, `src/store/ledger.py:142`, `--log-failed` and `tokio::spawn` each yield themselves as a
whole and their parts; words are stemmed lightly; Chinese, Japanese and Korean text, which has no spaces, yields pairs of
neighbouring characters and single ones. The terms are joined by blanks and indexed with a tokenizer that only splits at blanks, so that
the index cannot disagree with this file. Raise TERMS_VERSION when anything here changes: the store is re-indexed.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

TERMS_VERSION = 2
MAX_TERM_chars = 64
"""Longer runs (hashes, base64, minified code) are cut: nobody types them whole."""

# A run that may be one name: letters, digits and the joints that code puts between them.
_RUN = re.compile(
    r"[^\W_]\w*(?:[.:/\\@+#~-](?=[\w/.:\\@-])\w*)*|--?[A-Za-z][\w-]*|_+\w+|[./~@$][\w.][\w./:@+~-]*", re.UNICODE
)
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯豈-﫿]+")
_CJK_FUNCTION_WORDS = re.compile(
    "为什么|什么|怎么|怎样|如何|哪个|哪些|哪里|多少|我们|你们|他们|这个|那个|已经|还是|但是|因为|所以|的|了|是|把|被|在|吗|呢|吧|与|和|就|也|の"
)
"""What stands between the words of Chinese (and joins those of Japanese) and carries no topic."""
_JOINTS = re.compile(r"[^A-Za-z0-9\u0080-\uffff]+")
_HUMPS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z\u00df-\u024f]+|[A-Z]+|\d+|[^\x00-\x7f]+")

STOP_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before being but by can could did do does doing done
    each for from had has have having he her here him his how i if in into is it its itself just let ll me more most my
    no nor not now of off on once only or other our out over own re s same she should so some such t than that the their them then
    there these they this those through to too under until up us very was we were what when where which while who whom why will
    with would you your""".split()
)
"""Words that carry no topic. They are kept out of the index, in every position of a sentence."""


def terms(text: str) -> list[str]:
    """Analyse `text` into terms, in order, repeated as they occur.

    >>> terms("getUserName failed")
    ['getusername', 'get', 'user', 'name', 'fail']
    >>> terms("get_user_name")
    ['get_user_name', 'get', 'user', 'name']
    >>> terms("tokio::spawn --log-failed")
    ['tokio::spawn', 'tokio', 'spawn', '--log-failed', 'log', 'fail']
    >>> terms("src/store/ledger.py:142")
    ['src/store/ledger.py:142', 'src/store/ledger.py', 'ledger.py', 'src', 'stor', 'ledger', 'py', '142']
    >>> terms("数据库的端口")
    ['数据', '据库', '数', '据', '库', '端口', '端', '口']
    """
    runs = _RUN.findall(text if text.isascii() else unicodedata.normalize("NFKC", text))
    return list(chain.from_iterable(map(_terms_of_run, runs)))


@lru_cache(maxsize=8_192)
def terms_in(text: str) -> frozenset[str]:
    """The distinct terms of a line; those of lines that were looked at lately are held: one is looked at by many questions."""
    return frozenset(terms(text))


def is_mostly_cjk(text: str) -> bool:
    """Whether a third or more of the characters are Chinese, Japanese or Korean.

    >>> is_mostly_cjk("数据库 port"), is_mostly_cjk("the port of 数据库 in the compose file")
    (True, False)
    """
    return 3 * sum(len(run) for run in _CJK.findall(text)) >= max(1, len(text))


@lru_cache(maxsize=200_000)
def _terms_of_run(run: str) -> tuple[str, ...]:
    run = run.rstrip(".:/\\@+~-#")
    if not run:
        return ()
    found: list[str] = []
    if not run.isascii() and _CJK.search(run):
        for piece in re.split(f"({_CJK.pattern})", run):
            if _CJK.fullmatch(piece):
                found.extend(_terms_of_cjk(piece))
            else:
                found.extend(term for match in _RUN.finditer(piece) for term in _terms_of_run(match.group()))
        return tuple(found)
    pieces = [_terms_of_piece(piece) for piece in _JOINTS.split(run) if piece]
    if not run.startswith("-") and (not pieces or (len(pieces) == 1 and pieces[0][0] <= 1)):
        return _word(run)
    whole = _fold(run)
    found.append(whole[:MAX_TERM_chars])
    if "/" in run or "\\" in run:
        path = re.sub(r"(:\d+)+$", "", whole)
        if path != whole:
            found.append(path[:MAX_TERM_chars])
        name = re.split(r"[/\\]", path)[-1]
        if name and name != path and len(_JOINTS.split(name)) > 1:
            found.append(name[:MAX_TERM_chars])
    for _, terms_of_piece in pieces:
        found += terms_of_piece
    return tuple(dict.fromkeys(found))


def _terms_of_cjk(run: str) -> Iterator[str]:
    """Pairs of neighbours and single characters, between function words: a pair across one is a word of nobody's."""
    for piece in filter(None, _CJK_FUNCTION_WORDS.split(run)):
        yield from (piece[at : at + 2] for at in range(len(piece) - 1))
        yield from piece


@lru_cache(maxsize=100_000)
def _terms_of_piece(piece: str) -> tuple[int, tuple[str, ...]]:
    """The number of humps, and the terms: the piece itself where it has several, and each hump."""
    # Most pieces are one hump; asking is a tenth of the price of searching.
    if piece.isascii() and ((piece.islower() and piece.isalpha()) or piece.isdecimal()):
        return 1, _word(piece)
    humps = _HUMPS.findall(piece)
    whole = [_fold(piece)[:MAX_TERM_chars]] if len(humps) > 1 else []
    return len(humps), (*whole, *(term for hump in humps for term in _word(hump)))


@lru_cache(maxsize=100_000)
def _word(word: str) -> tuple[str, ...]:
    folded = _fold(word)
    if folded in STOP_WORDS or len(folded) > MAX_TERM_chars:
        return ()
    return (stem(folded),)


def _fold(text: str) -> str:
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    return "".join(ch for ch in unicodedata.normalize("NFKD", lowered) if not unicodedata.combining(ch))


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Cut English endings so that `failed`, `fails` and `failing` meet: a small subset of Porter's steps 1 and 2 (1980).

    >>> [stem(w) for w in ("fails", "failed", "failing", "caches", "cached", "caching", "queries", "class", "database")]
    ['fail', 'fail', 'fail', 'cach', 'cach', 'cach', 'queri', 'class', 'databas']
    """
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith(("ies", "sses")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ingly", "edly", "ing", "ed", "ly"):
        base = word[: -len(ending)]
        if word.endswith(ending) and len(base) >= 3 and re.search(r"[aeiouy]", base):
            word = base[:-1] if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz" else base
            break
    for ending, other in (
        ("ization", "iz"),
        ("ational", "at"),
        ("ation", "at"),
        ("ator", "at"),
        ("ness", ""),
        ("ment", ""),
        ("ion", ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            word = word[: -len(ending)] + other
            break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    if word.endswith("y") and len(word) > 3:
        word = word[:-1] + "i"
    return word
