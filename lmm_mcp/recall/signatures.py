"""An error text in, its signatures out. Pure.

Two errors are the same where they read the same but for what differs from run to run: numbers, addresses, hashes, folders, times.
"""

import re

MAX_SIGNATURES = 12
MAX_SIGNATURE_chars = 240
_MIN_CONTAINED_chars = 24
"""A shorter signature that is part of another one says too little to be the same error."""
_WRONG = re.compile(
    r"(?:\b[A-Za-z_.]*(?:Error|Exception|Warning|(?<!De)Fault)\b|\b(?:error|fatal|panic(?:ked)?|fail(?:ed|ure|s)?|denied|refused|cannot|can't|could not"
    r"|not found|no such|undefined|unexpected|unresolved|invalid|missing|unable to|timed? ?out|segmentation|already in use)\b|\b[A-Z]{2,5}\d{3,5}\b)",
    re.IGNORECASE,
)
_SHAPE = re.compile(
    r"(?:^|[\s(\[])(?:[A-Za-z_][\w.]*(?:Error|Exception|(?<!De)Fault)\b|(?:error|fatal|panic|err!)\b.{0,12}:|error\[|E {3,})|^Traceback|^\s+at \S+ ?\("
    r"|: (?:command not found|no such file|permission denied|cannot )",
    re.IGNORECASE | re.MULTILINE,
)
"""What tells an error that was pasted from a question about one."""
_GENERIC = frozenset(
    "error errors failed failure exit code status command process returned with the and traceback most recent call last file line in warning exception for from exited script found some were emitted while running checks task step job build test tests suite".split()
)
_RUN_TIME = (
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),
    (
        re.compile(
            r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{18,22}\b|\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{7,64}\b",
            re.IGNORECASE,
        ),
        "#",
    ),
    (re.compile(r"(?:[A-Za-z]:)?(?:[\w.@~+-]*[/\\])+([\w.@+-]*)"), r"\1"),
    (re.compile(r"\d[\d.,:_-]*"), "#"),
    (re.compile(r"[\s\"'`│|>^~*-]+"), " "),
)


def is_failure(text: str) -> bool:
    """Whether a question is, or holds, an error as a program printed it.

    >>> is_failure("TypeError: total is undefined"), is_failure("how did we mend the error in the till?")
    (True, False)
    """
    return _SHAPE.search(text) is not None


def signature(line: str) -> str:
    """What stays of an error line from run to run; '' for a line that tells no error, or says nothing of its own.

    >>> signature("/home/ann/shop/till.py:14: TypeError: till 7 is 'closed' (0x7f3a)")
    'till.py:# typeerror: till # is closed (#)'
    >>> signature("error: process exited with code 1")
    ''
    """
    if not _WRONG.search(line) or line.lstrip().startswith(("$ ", "> ", "+ ")):  # a command that was echoed
        return ""
    kept = line
    for pattern, other in _RUN_TIME:
        kept = pattern.sub(other, kept)
    kept = kept.strip().lower()[:MAX_SIGNATURE_chars]
    telling = [word for word in re.findall(r"[^\W\d_]{3,}", kept) if word not in _GENERIC]
    return kept if len(telling) >= 2 else ""


def signatures(text: str) -> tuple[str, ...]:
    """Those of the error lines of a text, each once, the last ones first: the cause stands at the end, nearly always."""
    lines = [line for line in reversed(text.splitlines()) if _SHAPE.search(line)]
    found = dict.fromkeys(filter(None, map(signature, lines)))
    return tuple(found)[:MAX_SIGNATURES]


def same(one: str, other: str) -> bool:
    """Whether two signatures are of the same error: equal, or one part of the other."""
    short, long = sorted((one, other), key=len)
    return bool(short) and (short == long or (len(short) >= _MIN_CONTAINED_chars and short in long))
