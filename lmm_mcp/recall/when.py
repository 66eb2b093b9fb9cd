"""Times that a question names: "last week", "since Monday", "two days ago", "in March", "2026-02-11", 上周. Pure.

A time is said relative to when it is asked, which the caller hands in. Days are those of UTC, as in all that recall shows.
What may be no time ("may", "second", "sat") counts only beside a word or number that makes it one. What is found is a
preference of whoever asks, never a filter: people remember times badly.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MAX_TEXT_chars = 400
"""A longer question was pasted, and its times are those of a log."""
DAY_ms = 86_400_000
SPARE_ms = 7 * DAY_ms
"""To either side of a period that is not much longer: people are off by days, and talk of a thing on the days after."""
_FEW_days = (2, 7)
"""Of "a few days"; of other units as many."""

_MONTHS = "january february march april may june july august september october november december".split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_NUMBERS = dict(
    zip("one two three four five six seven eight nine ten eleven twelve".split(), range(1, 13), strict=True)
)
_NUMBERS |= {"a": 1, "an": 1}
_CJK_NUMBERS = {"一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
_CJK_NUMBERS |= {"十一": 11, "十二": 12, "半": 0}
_CJK_DAYS = {each: n for n, each in enumerate("一二三四五六日")} | {"天": 6}
_UNIT_hours = {"minute": 1 / 60, "hour": 1, "day": 24, "week": 168, "month": 730, "year": 8766}
_CJK_UNITS = {"分钟": "minute", "小时": "hour", "天": "day", "日": "day", "周": "week", "星期": "week", "礼拜": "week"}
_CJK_UNITS |= {"週間": "week", "月": "month", "年": "year"}

_MONTH = rf"(?P<month>{'|'.join(_MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_NUMBER = rf"(?P<number>\d{{1,3}}|{'|'.join(_NUMBERS)}|a couple of|couple|a few|few|several)"
_UNIT = r"(?P<unit>minute|hour|day|week|month|year)s?"
_LEADS = "(?:in|during|since|last|from|before|after|until|till|between|by|through|early|mid|late|to|and|of)"
_CJK_NUMBER = rf"(?P<number>\d{{1,3}}|{'|'.join(sorted(_CJK_NUMBERS, key=len, reverse=True))}|几)"
_CJK_UNIT = rf"(?P<unit>{'|'.join(_CJK_UNITS)})"


@dataclass(frozen=True, slots=True)
class Period:
    """A time that a question names, both ends included, milliseconds UTC, and the characters of it that say so."""

    since_ms: int
    until_ms: int
    start: int
    end: int
    is_relative: bool = True
    """Said as seen from now ("yesterday"): then its words stand in no session that it means."""

    def nearness(self, first_ms: int, last_ms: int) -> float:
        """How near something that lasted from `first_ms` to `last_ms` lies: 1 within, at least in part, 0 far away or undated.

        >>> week = Period(7 * DAY_ms, 14 * DAY_ms - 1, 0, 0)
        >>> [round(week.nearness(at * DAY_ms, at * DAY_ms), 2) for at in (1, 5, 8, 15, 30)]
        [0.14, 0.71, 1.0, 0.86, 0.0]
        """
        if not last_ms:
            return 0.0
        apart_ms = max(self.since_ms - last_ms, (first_ms or last_ms) - self.until_ms, 0)
        return max(0.0, 1 - apart_ms / max(SPARE_ms, (self.until_ms - self.since_ms) / 4))


_Span = tuple[datetime, datetime]
"""First moment, and the first one after it."""
_Reading = Callable[[re.Match[str], datetime], _Span | None]


def periods(text: str, asked_ms: int | None) -> tuple[Period, ...]:
    """The times that `text` names, in its order, as seen at `asked_ms`; none later than that, none in a long text.

    Where `asked_ms` is not known, whole dates alone are understood.

    >>> [day(each.since_ms) + " " + day(each.until_ms) for each in periods("what broke last week?", 1_772_000_000_000)]
    ['2026-02-16 2026-02-22']
    >>> periods("this may be the second error", 1_772_000_000_000)
    ()
    """
    if len(text) > MAX_TEXT_chars:
        return ()
    now = None if asked_ms is None else datetime.fromtimestamp(asked_ms / 1000, UTC)
    found: list[tuple[int, int, _Span, bool]] = []
    for pattern, read, is_relative in _READINGS:
        for match in pattern.finditer(text):
            begin = match.start("said") if "said" in pattern.groupindex else match.start()
            is_taken = any(start < match.end() and begin < end for start, end, *_ in found)
            if is_taken or (now is None and is_relative):
                continue
            try:
                span = read(match, now or datetime(9998, 1, 1, tzinfo=UTC))
            except (ValueError, OverflowError):  # 2026-02-31, or a year before the first
                continue
            if span is not None:
                found.append((begin, match.end(), span, is_relative))
    return tuple(_turned(text, sorted(found, key=lambda each: each[:2]), now))


def without(text: str, found: Sequence[Period]) -> str:
    """What a question says beside the times that it names.

    >>> without("what did we do last week?", periods("what did we do last week?", 1_772_000_000_000)).split()
    ['what', 'did', 'we', 'do', '?']
    """
    for each in sorted(found, key=lambda each: -each.start):
        text = f"{text[: each.start]} {text[each.end :]}"
    return text


def day(at_ms: int) -> str:
    """The day of a time, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


_BEFORE = re.compile(r"(?P<how>since|after|before|until|till|by|between|from|自从?|从)\s*(?:the\s+)?$", re.IGNORECASE)
_AFTER = re.compile(r"\s*(?P<how>以来|之后|以后|之前|以前|から|以降)")
_AND = re.compile(r"\s*(?:and|to|until|till|through|-|–|到|和|至)\s*(?:the\s+)?", re.IGNORECASE)
_HOW = {"since": "from", "自从": "from", "自": "from", "从": "from", "from": "from", "以来": "from", "から": "from"}
_HOW |= {"以降": "from", "after": "after", "之后": "after", "以后": "after", "before": "until", "之前": "until"}
_HOW |= {"以前": "until", "until": "by", "till": "by", "by": "by", "between": "between"}


def _turned(text: str, found: Sequence[tuple[int, int, _Span, bool]], now: datetime | None) -> Iterator[Period]:
    """Read what stands around the times: "since Monday", "between Monday and Friday"."""
    left = list(found)
    latest = now or datetime(9998, 1, 1, tzinfo=UTC)
    earliest = datetime(1970, 1, 2, tzinfo=UTC)
    while left:
        start, end, (since, until), is_relative = left.pop(0)
        before = _BEFORE.search(text[:start])
        how = _HOW[before["how"].lower()] if before else ""
        if before:
            start = before.start()
        elif after := _AFTER.match(text, end):
            how, end = _HOW[after["how"]], after.end()
        if how in ("from", "between") and left and _AND.fullmatch(text, end, left[0][0]):
            _, end, (_, until), other = left.pop(0)
            how, is_relative = "", is_relative or other
        match how:
            case "from" | "between":
                until = max(until, latest)
            case "after":
                since, until = until, latest
            case "until":
                since, until = earliest, since
            case "by":
                since = earliest
        until = min(until, latest + timedelta(milliseconds=1))
        if since < until:
            yield Period(_ms(since), _ms(until) - 1, start, end, is_relative)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _days(first: datetime, num: int = 1) -> _Span:
    return _midnight(first), _midnight(first) + timedelta(days=num)


def _month(year: int, month: int) -> _Span:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    first = datetime(year, month, 1, tzinfo=UTC)
    return first, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _year(year: int) -> _Span:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _of_date(found: re.Match[str], now: datetime) -> _Span | None:
    """A month, or a day of one; without a year the last one there was."""
    named = found.groupdict()
    name = (named.get("month") or "").rstrip(".")
    month = int(name) if name.isdigit() else _CJK_NUMBERS.get(name) or _number_of_month(name)
    the_day, year = int(named.get("day") or 0), int(named.get("year") or 0)
    if not year and now.year == 9998:
        return None
    for each in (year,) if year else (now.year, now.year - 1):
        span = _days(datetime(each, month, the_day, tzinfo=UTC)) if the_day else _month(each, month)
        if year or span[0] <= now:
            return span
    return None


def _number_of_month(name: str) -> int:
    return next(n for n, each in enumerate(_MONTHS, 1) if each.startswith(name.lower()[:3]))


def _of_units(unit: str, now: datetime, ago: int) -> _Span:
    """The calendar day, week, month or year that lies `ago` of them back."""
    if unit == "week":
        return _days(now - timedelta(days=now.weekday() + 7 * ago), 7)
    if unit == "month":
        return _month(now.year, now.month - ago)
    if unit == "year":
        return _year(now.year - ago)
    return _days(now - timedelta(days=ago))


def _ago(found: re.Match[str], now: datetime) -> _Span:
    """Around then: half a unit to either side, whole days."""
    unit = _CJK_UNITS.get(found["unit"], found["unit"].lower())
    hours = _UNIT_hours[unit]
    low, high = _numbers(found["number"].lower())
    if unit in ("minute", "hour"):
        return now - timedelta(hours=(high + 1) * hours + 1), now - timedelta(hours=max(0, (low - 1) * hours - 1))
    spare = 0.0 if unit == "day" else 0.5
    first, last = now - timedelta(hours=(high + spare) * hours), now - timedelta(hours=(low - spare) * hours)
    return _midnight(first), _midnight(last) + timedelta(days=1)


def _past(found: re.Match[str], now: datetime) -> _Span:
    unit = _CJK_UNITS.get(found["unit"], found["unit"].lower())
    _, high = _numbers((found["number"] or "one").lower())
    return now - timedelta(hours=max(high, 0.5) * _UNIT_hours[unit]), now


def _numbers(word: str) -> tuple[int, int]:
    if word in ("a few", "few", "several", "几"):
        return _FEW_days
    if word in ("a couple of", "couple"):
        return 2, 2
    number = int(word) if word.isdigit() else {**_NUMBERS, **_CJK_NUMBERS}[word]
    return number, number


def _weekday(found: re.Match[str], now: datetime) -> _Span:
    """The last day of that name: today's own name means today, unless it was "last" week's."""
    named = found.groupdict()
    number = _CJK_DAYS[named["cjk"]] if named.get("cjk") else _DAYS.index(named["weekday"].lower())
    which = (named.get("which") or "").lower()
    if which in ("上", "上个"):
        return _days(now - timedelta(days=now.weekday() + 7 - number))
    back = (now.weekday() - number) % 7
    return _days(now - timedelta(days=back + (7 if which == "last" and not back else 0)))


def _fixed(unit: str, ago: int) -> _Reading:
    return lambda _, now: _of_units(unit, now, ago)


def _said(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_NO_NAME = r"(?<![\w./-])"
_READINGS: tuple[tuple[re.Pattern[str], _Reading, bool], ...] = (
    (_said(rf"{_NO_NAME}{_YEAR}[-/](?P<month>\d\d?)[-/](?P<day>\d\d?)(?![\w/-])"), _of_date, False),
    (_said(rf"{_YEAR}\s?年\s?(?P<month>\d\d?)\s?月(?:\s?(?P<day>\d\d?)\s?[日号號])?"), _of_date, False),
    (_said(rf"{_NO_NAME}{_YEAR}-(?P<month>0\d|1[0-2])(?![\w/-])"), _of_date, False),
    (_said(rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}\b"), _of_date, False),
    (_said(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}\b"), _of_date, False),
    (_said(rf"\b{_MONTH},?\s+{_YEAR}\b"), _of_date, False),
    (_said(rf"\b{_MONTH}\s+{_DAY}\b(?![:.]\d)"), _of_date, False),
    (_said(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?![\w])"), _of_date, False),
    (_said(rf"\b(?:in|during|since|last)\s+(?:early |mid |late )?(?P<said>(?!may\b){_MONTH})(?!\w)"), _of_date, False),
    (
        re.compile(rf"(?i:\b{_LEADS})\s+(?P<said>(?P<month>{'|'.join(each.title() for each in _MONTHS)}))\b"),
        _of_date,
        False,
    ),
    (_said(rf"\b{_NUMBER}\s+{_UNIT}\s+(?:ago|back|earlier)\b"), _ago, True),
    (_said(rf"\b(?:last|past|previous)\s+{_NUMBER}\s+{_UNIT}\b"), _past, True),
    (_said(rf"\b(?:in|over|within|during) the (?:last|past) (?P<number>)?{_UNIT}\b"), _past, True),
    (_said(r"\bthe day before yesterday\b|前天|一昨日|おととい"), _fixed("day", 2), True),
    (_said(r"\byesterday\b|\blast (?:night|evening)\b|昨天|昨晚|昨日"), _fixed("day", 1), True),
    (_said(r"\btoday\b|\bthis (?:morning|afternoon|evening)\b|\btonight\b|今天|今早|今日"), _fixed("day", 0), True),
    (
        _said(r"\b(?:last|previous) week(?:'s)?\b|上个?(?:周|星期|礼拜)(?![一二三四五六日天])|先週"),
        _fixed("week", 1),
        True,
    ),
    (_said(r"\bthis week(?:'s)?\b|[这本]个?(?:周|星期|礼拜)(?![一二三四五六日天])|今週"), _fixed("week", 0), True),
    (_said(r"\b(?:last|previous) month(?:'s)?\b|上个?月|先月"), _fixed("month", 1), True),
    (_said(r"\bthis month(?:'s)?\b|[这本]个?月|今月"), _fixed("month", 0), True),
    (_said(r"\b(?:last|previous) year(?:'s)?\b|去年"), _fixed("year", 1), True),
    (_said(r"\bthis year(?:'s)?\b|今年"), _fixed("year", 0), True),
    (
        _said(r"\b(?:last|this past|previous) weekend\b|上个?周末"),
        lambda _, now: _days(now - timedelta(days=now.weekday() + 2), 2),
        True,
    ),
    (_said(rf"\b(?:(?P<which>last|this)\s+)?(?P<weekday>{'|'.join(_DAYS)})\b"), _weekday, True),
    (_said(r"(?P<which>上个?|这个?|本)?(?:周|星期|礼拜)(?P<cjk>[一二三四五六日天])"), _weekday, True),
    (_said(rf"(?:最近|过去|近){_CJK_NUMBER}个?{_CJK_UNIT}"), _past, True),
    (_said(rf"{_CJK_NUMBER}\s?个?{_CJK_UNIT}(?:之?前|以前)"), _ago, True),
    (_said(r"(?<![\d个])(?P<month>1[0-2]|[1-9])\s?月\s?(?P<day>[0-3]?\d)\s?[日号號]"), _of_date, False),
    (_said(r"(?<![\d个])(?P<month>1[0-2]|[1-9]|十[一二]?|[一二三四五六七八九])月(?:份|(?!\d))"), _of_date, False),
)
"""Longer ones first: what one has read, no later one reads again. With each: whether it is said as seen from now."""


def _ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
