"""Small words that every room says alike."""

EXTRA_TRAIN = (
    "in a clone of this program `python3 bootstrap.py test` installs the packages of its extra `train`, "
    "elsewhere it is installed anew with it, as lmm-mcp[train]"
)
"""The next step where packages for training are missing."""


def counted(number: int, noun: str) -> str:
    """Say how many there are.

    >>> counted(1, "session file"), counted(1200, "passage"), counted(2, "reply")
    ('1 session file', '1,200 passages', '2 replies')
    """
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"


def sized(num_bytes: int) -> str:
    """Say how much that is.

    >>> sized(0), sized(320), sized(48_200), sized(3_440_000), sized(12_000_000_000)
    ('0 kB', '1 kB', '49 kB', '3.4 MB', '12,000.0 MB')
    """
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{-(-num_bytes // 1000):,} kB"
