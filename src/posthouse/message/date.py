"""Dates of RFC 5322 §3.3, read leniently and written strictly. No clock is asked: a date is UTC milliseconds since
1970.
"""

import re
from typing import Final

_MONTHS: Final = {
    name: number for number, name in enumerate((b"jan feb mar apr may jun jul aug sep oct nov dec").split(), start=1)
}
_MONTH_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_NAMES: Final = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1 January 1970 was a Thursday
_DAYS_IN: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_CLOCK = rb"(\d{1,2})\s{0,9}[:.]\s{0,9}(\d{2})(?:\s{0,9}[:.]\s{0,9}(\d{2})(?:\.\d{1,9})?)?"
# RFC 5322 §3.3, as nearly all mail writes it.
_USUAL = re.compile(
    rb"(?:[A-Za-z]{3}, )?(\d{1,2}) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) "
    rb"([+-])(\d\d)(\d\d)(?: \([A-Za-z]{1,5}\))?\Z"
)
# RFC 5322 §3.3 and §4.3; a dash between day, month and year is common breakage (RFC 850).
_DATE = re.compile(
    rb"\s*(?:[A-Za-z]{3,9}\s*[,.]?\s*)?(\d{1,2})(?:st|nd|rd|th)?[\s-]{1,9}([A-Za-z]{3})[A-Za-z]{0,6}[.,]?[\s-]{1,9}"
    rb"(\d{2,4})[\s,]{1,9}" + _CLOCK + rb"\s*([AaPp][Mm]\b)?\s*([+-]\s?\d{1,2}:?\d{2}|[A-Za-z]{1,5})?"
)
# ctime: "Sun Nov  6 08:49:37 1994", with or without a zone before or after the year.
_CTIME = re.compile(
    rb"\s*(?:[A-Za-z]{3,9}\s*,?\s*)?([A-Za-z]{3})[A-Za-z]{0,6}\s{1,9}(\d{1,2}),?\s{1,9}(?:(\d{4})\s{1,9})?"
    + _CLOCK
    + rb"\s{1,9}([A-Za-z]{1,5}\s{1,9}|[+-]\d{4}\s{1,9})?(\d{4})?\s*([+-]\d{4}|[A-Za-z]{1,5})?"
)
_ISO = re.compile(rb"\s*(\d{4})-(\d{2})-(\d{2})[T\s]" + _CLOCK + rb"\s*([+-]\d{2}:?\d{2}|[A-Za-z]{1,5})?")
# RFC 5322 §4.3; all other letters mean "-0000": the zone is not known.
_ZONES: Final = {
    b"est": -300,
    b"edt": -240,
    b"cst": -360,
    b"cdt": -300,
    b"mst": -420,
    b"mdt": -360,
    b"pst": -480,
    b"pdt": -420,
}
_ZONES_SEEN: Final = {
    b"bst": 60,
    b"cet": 60,
    b"cest": 120,
    b"met": 60,
    b"mest": 120,
    b"eet": 120,
    b"eest": 180,
    b"msk": 180,
    b"jst": 540,
}


def parse_date(raw: bytes) -> int | None:
    """UTC milliseconds; None where no date can be made out. A date whose zone is unknown is read as UTC."""
    found = _parsed(raw)
    return None if found is None else found[0] - found[1] * 60_000


def parse_written(raw: bytes) -> int | None:
    """The same by the clock of whoever wrote it: milliseconds as if the zone were UTC."""
    found = _parsed(raw)
    return None if found is None else found[0]


def _parsed(raw: bytes) -> tuple[int, int] | None:
    """Milliseconds as if the zone were UTC, and the minutes that it is east of Greenwich."""
    if usual := _USUAL.match(raw):
        day, month, year, hour, minute, second, sign, east, rest = usual.groups()
        if number := _MONTHS.get(month.lower()):
            minutes = int(east) * 60 + int(rest)
            offset = 0 if minutes > 24 * 60 else -minutes if sign == b"-" else minutes
            return _dated(int(year), number, int(day), int(hour), int(minute), int(second), offset)
    return _parse_unusual(raw)


def _parse_unusual(raw: bytes) -> tuple[int, int] | None:
    if b"(" in raw:  # comments may stand anywhere; those of dates are short and not nested
        raw = re.sub(rb"\([^()]{0,100}\)", b" ", raw[:400])
    if match := _DATE.match(raw):
        day, month, year, hour, minute, second, half, zone = match.groups()
    elif match := _CTIME.match(raw):
        month, day, year, hour, minute, second, before, after, zone = match.groups()
        year, zone, half = year or after, (zone or before or b"").strip(), None
    elif match := _ISO.match(raw):
        year, month, day, hour, minute, second, zone = match.groups()
        half = None
    else:
        return None
    number = _MONTHS.get(month.lower()) or (int(month) if month.isdigit() else 0)
    if not year or not 1 <= number <= 12:
        return None
    return _dated(_year(year), number, int(day), _hour(int(hour), half), int(minute), int(second or 0), _offset(zone))


def _year(digits: bytes) -> int:
    """RFC 5322 §4.3: two digits below 50 are of this century; two others and three digits count from 1900."""
    year = int(digits)
    if len(digits) == 2 and year < 50:
        return year + 2000
    return year + 1900 if len(digits) < 4 else year


def _hour(hour: int, half: bytes | None) -> int:
    if half is None or hour > 12:
        return hour
    return hour % 12 + (12 if half[:1] in b"pP" else 0)


def _offset(zone: bytes | None) -> int:
    """Minutes east of Greenwich."""
    if not zone:
        return 0
    if zone[:1] in b"+-":
        digits = zone[1:].replace(b":", b"").strip().rjust(4, b"0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes > 24 * 60:
            return 0
        return -minutes if zone[:1] == b"-" else minutes
    name = zone.lower()
    return _ZONES.get(name) or _ZONES_SEEN.get(name, 0)


def _dated(year: int, month: int, day: int, hour: int, minute: int, second: int, offset: int) -> tuple[int, int] | None:
    if not 1 <= day <= _DAYS_IN[month] or hour > 24 or minute > 59 or second > 60:
        return None
    return ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000, offset


def _days(year: int, month: int, day: int) -> int:
    """Days since 1 January 1970 in the Gregorian calendar; the year is counted from March, so that a leap day ends
    it.
    """
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469


def format_date(at: int) -> str:
    """RFC 5322 §3.3, in UTC, e.g. "Fri, 21 Nov 1997 09:55:06 +0000". `at`: UTC milliseconds."""
    days, seconds = divmod(at // 1000, 86_400)
    year, month, day = _civil(days)
    hour, rest = divmod(seconds, 3600)
    return (
        f"{_DAY_NAMES[days % 7]}, {day:02} {_MONTH_NAMES[month - 1]} {year:04} "
        f"{hour:02}:{rest // 60:02}:{rest % 60:02} +0000"
    )


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month, day of that many days since 1 January 1970."""
    days += 719_468  # since 1 March of the year 0
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year + (month <= 2), month, day
