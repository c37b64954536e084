from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.date import _parse_unusual, _parsed, format_date, parse_date, parse_written


@pytest.mark.parametrize(
    ("raw", "utc"),
    [
        (b"Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T15:55:06"),
        (b"21 Nov 1997 09:55 -0600", "1997-11-21T15:55:00"),
        # RFC 5322 appendix A.5 and A.6.2
        (b"Thu,  13     Feb  1969   23:32      -0330 (Newfoundland Time)", "1969-02-14T03:02:00"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T15:55:06"),
        (b"21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06"),
        # RFC 5322 §4.3
        (b"21 Nov 07 09:55:06 EST", "2007-11-21T14:55:06"),
        (b"21 Nov 107 09:55:06 PDT", "2007-11-21T16:55:06"),
        (b"21 Nov 1997 09:55:06 Q", "1997-11-21T09:55:06"),
        (b"Sat, 31 Dec 2016 23:59:60 +0000", "2017-01-01T00:00:00"),
        # breakage that is seen
        (b"Friday, 21-Nov-97 09:55:06 GMT", "1997-11-21T09:55:06"),
        (b"Fri Nov 21 09:55:06 1997", "1997-11-21T09:55:06"),
        (b"Fri Nov 21 09:55:06 EST 1997", "1997-11-21T14:55:06"),
        (b"Fri Nov 21 09:55:06 1997 -0600", "1997-11-21T15:55:06"),
        (b"1997-11-21T09:55:06Z", "1997-11-21T09:55:06"),
        (b"1997-11-21 09:55:06+01:00", "1997-11-21T08:55:06"),
        (b"Fri, 21 Nov 1997 09:55:06 +1:00", "1997-11-21T08:55:06"),
        (b"Fri, 21 Nov 1997 09.55.06 PM GMT", "1997-11-21T21:55:06"),
        (b"Fri,21 November 1997 09:55:06 +0100", "1997-11-21T08:55:06"),
        (b"Fri, 21 Nov 1997 09:55:06 +9999", "1997-11-21T09:55:06"),
    ],
)
def test_dates(raw: bytes, utc: str) -> None:
    at = parse_date(raw)
    assert at is not None
    assert datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") == utc


@pytest.mark.parametrize(
    "zone", [b"+0000", b"-0500", b"+1:00", b"EST", b"Q", b"", b"-2500", b"+0100 (so (it) says)"], ids=repr
)
def test_the_clock_of_whoever_wrote_it(zone: bytes) -> None:
    assert parse_written(b"Fri, 21 Nov 1997 09:55:06 " + zone) == parse_date(b"Fri, 21 Nov 1997 09:55:06 +0000")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"yesterday",
        b"32 Nov 1997 09:55 GMT",
        b"1 Foo 1997 10:00 GMT",
        b"1 Nov 1997 10:99",
        b"1997-13-01T00:00:00Z",
    ],
)
def test_no_dates(raw: bytes) -> None:
    assert parse_date(raw) is None
    assert parse_written(raw) is None


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)))
def test_written_as_the_standard_library_writes_and_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)).days * 86_400_000 + (
        moment.hour * 3600 + moment.minute * 60 + moment.second
    ) * 1000
    assert format_date(at) == format_datetime(moment)
    assert parse_date(format_date(at).encode()) == at
    assert parsedate_to_datetime(format_date(at)) == moment


@given(st.text("0123456789 :+-.,()JanGMTZPm").map(str.encode) | st.binary())
def test_never_raises(raw: bytes) -> None:
    parse_date(raw)


@given(
    st.from_regex(
        rb"([A-Z][a-z]{2}, )?[0-9]{1,2} [JFMANOSDX][aeuco][nbrylgptvc] [0-9]{4} "
        rb"[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}( \([A-Z]{3}\))?",
        fullmatch=True,
    )
)
def test_what_is_written_as_usual_is_read_as_all_else_is(raw: bytes) -> None:
    assert _parsed(raw) == _parse_unusual(raw)
