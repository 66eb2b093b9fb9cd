"""Small words that every room says alike."""


def counted(number: int, noun: str) -> str:
    """Say how many there are.

    >>> counted(1, "session file"), counted(1200, "passage"), counted(2, "reply")
    ('1 session file', '1,200 passages', '2 replies')
    """
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"
