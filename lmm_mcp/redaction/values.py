"""What a value looks like: a secret, a placeholder, a reference to something else, or plain words.

In: the text that stands where a secret could stand. Out: yes or no. Every pattern here runs on at most a few hundred
characters and uses possessive repeats, so that none of them can take long.
"""

import re

_MIN_DISTINCT = 4
"""`xxxx`, `****` and `abab` have fewer different characters than any real secret."""

_PLACEHOLDER_WORDS_TEXT = """
    a abc actual add admin an and any api apikey app at auth bar basic baz bearer bot change changeme client code
    config credential credentials data database db default demo dev dummy empty enter env example fake false field file
    fill fixme foo for from github goes google guest hash here hidden id in insert invalid is it jwt key keys local
    localhost login masked me missing mock my mysql name new nil no none not null oauth of old openai optional or our
    pass passphrase passwd password paste personal placeholder postgres private prod production provided public put pw
    pwd qux real redacted redis refresh removed replace replaceme required sample secret secrets server service
    session set some staging str string stripe stub tbd test tester testing tests text that the this to todo token
    tokens true type undefined unset use user username valid value values vault with wrong xxx xyz yes you your
"""
_PLACEHOLDER_WORDS = frozenset(_PLACEHOLDER_WORDS_TEXT.split())
_LONGEST_chars = max(map(len, _PLACEHOLDER_WORDS))
_LOOKED_AT_chars = 64
"""Of a value; a placeholder that is longer has shown what it is by then."""
_MARKS = ("xxxx", "****", "...", "…", "redacted", "placeholder", "your-", "your_", "your ", "changeme")
_REFERENCE = re.compile(
    r"""
    [$%@&*]\w*$ | \$[\w({\[] | \$$ | %\(?\w+\)?[%sd]?$ | [#{]\{ | \{[\w.:!-]*\} | <[^<>]*>? | \[[^\]]*\]?$   # $X ${X} %X% %s {x} <x>
    | (?:process|import\.meta|os|sys|env|secrets?|vars?|config|settings|self|this|props|args|opts|options|cfg)\b[.\[(] # code
    | (?:getenv|environ|lookup|vault|ref\+|op|arn|file|https?|data|ssm|projects)\b[:(/.]                               # elsewhere
    | (?:[A-Za-z_][\w.:>-]*)?[(\[{]                                                                                    # call( index[
    | (?:~|\.{1,2})?/[\w.@~-]+/ | ~/ | \.{1,2}/ | [A-Za-z]:\\ | (?:~|\.{1,2})?/[\w@~-]+\.\w+$                           # a path
    """,
    re.VERBOSE,
)
_NAME_PATH = re.compile(r"[A-Za-z_]\w*(?:(?:\.|->|::|\?\.)[A-Za-z_]\w*)+")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_SEGMENTS = re.compile(r"[A-Za-z0-9]+")
_TOKEN_CHARACTERS = re.compile(r"[\w+/=.~:@!#%^&*?|-]+", re.ASCII)


def is_placeholder(value: str) -> bool:
    """Whether `value` stands in for a secret: `your-key-here`, `xxxx`, `test-token-1`, `[REDACTED]`.

    >>> [is_placeholder(v) for v in ("your-api-key-here", "changeme", "********", "hunter2")]
    [True, True, True, False]
    """
    folded = value.lower()
    if len(set(folded)) < _MIN_DISTINCT or any(mark in folded for mark in _MARKS):
        return True
    if folded.endswith("..") or (len(folded) < 16 and folded.endswith(("_", "-"))):
        return True  # a token's beginning, as people show it: `ghp_..`
    return _only_placeholder_words(folded[:_LOOKED_AT_chars])


def _only_placeholder_words(folded: str) -> bool:
    """Whether nothing is left of `folded` but such words, digits and signs: words are taken longest first, never put back."""
    at = 0
    while at < len(folded):
        if not folded[at].isalpha():
            at += 1
            continue
        for length in range(min(_LONGEST_chars, len(folded) - at), 0, -1):
            if folded[at : at + length] in _PLACEHOLDER_WORDS:
                at += length
                break
        else:
            return False
    return True


def is_credential(value: str) -> bool:
    """Whether `value`, found where only a password can stand, is one."""
    return not is_placeholder(value) and not is_reference(value)


def is_bearer(value: str) -> bool:
    """Whether `value` is a token and not the next word of a sentence about bearers."""
    return not is_placeholder(value) and (any(map(str.isdigit, value)) or (len(value) >= 24 and not value.islower()))


def is_reference(value: str) -> bool:
    """Whether `value` says where a secret is, instead of being one: a variable, a call, a template, a path, an address.

    >>> [is_reference(v) for v in ("${TOKEN}", "process.env.KEY", "get_token()", "/run/secrets/db", "user.token", "a9X!f2")]
    [True, True, True, True, True, False]
    """
    return bool(_REFERENCE.match(value)) or bool(_NAME_PATH.fullmatch(value)) or "${" in value or "$(" in value


def is_uuid(value: str) -> bool:
    """Whether `value` is a UUID, which names things far more often than it opens them."""
    return bool(_UUID.fullmatch(value))


def mixes(value: str) -> bool:
    """Whether `value` has a letter and something that is neither letter nor blank, as passwords do."""
    return any(c.isalpha() for c in value) and any(not c.isalpha() and c not in " \t-_.:/" for c in value)


def is_random(value: str, *, min_chars: int) -> bool:
    """Whether `value` looks like generated characters and not like words, versions, dates or names joined by signs.

    >>> is_random("q8Zr2LmX0pVt7Ys4", min_chars=16), is_random("gpt-4o-mini-2024-07-18", min_chars=16)
    (True, False)
    """
    if len(value) < min_chars or not _TOKEN_CHARACTERS.fullmatch(value):
        return False
    segments: list[str] = _SEGMENTS.findall(value)
    return any(
        len(segment) >= 8 and not segment.isalpha() and not segment.isdigit() and sum(map(str.isdigit, segment)) >= 2
        for segment in segments
    )
