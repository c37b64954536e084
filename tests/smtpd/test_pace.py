from posthouse.clock import SetClock
from posthouse.smtpd.pace import Pace


def test_a_command_may_take_so_long_in_all() -> None:
    clock = SetClock()
    pace = Pace(clock, line=300, rate=500, session=1_000_000)
    clock.advance(200)
    for _ in range(31):
        assert not pace.is_late(1, message=False)
        clock.advance(10)
    assert pace.is_late(1, message=False)
    pace.begin()
    assert not pace.is_late(1, message=False)


def test_a_message_earns_its_time_with_its_octets() -> None:
    clock = SetClock()
    pace = Pace(clock, line=300, rate=500, session=10)
    assert not pace.is_late(0, message=True)
    for _ in range(100):
        clock.advance(20)
        assert not pace.is_late(10_000, message=True)
    # 2,000 s for a million octets, and 300 to begin with.
    clock.advance(299)
    assert not pace.is_late(0, message=True)
    clock.advance(2)
    assert pace.is_late(0, message=True)
    pace.begin()
    pace.allow(10)
    assert not pace.is_late(1, message=True)
    clock.advance(301)
    assert pace.is_late(400, message=True)
    unhurried = Pace(clock, line=0, rate=0, session=1)
    assert not unhurried.is_late(1, message=True)
    clock.advance(1000)
    assert not unhurried.is_late(1, message=True)


def test_a_session_goes_on_as_long_as_there_is_progress() -> None:
    clock = SetClock()
    pace = Pace(clock, line=300, rate=500, session=900)
    for _ in range(9):
        clock.advance(100)
        pace.begin()
        assert not pace.is_late(6, message=False)
    clock.advance(1)
    assert pace.is_late(6, message=False)
    pace.allow(900)
    clock.advance(299)
    assert not pace.is_late(6, message=False)


def test_the_chunks_of_a_message_earn_their_time_together() -> None:
    clock = SetClock()
    pace = Pace(clock, line=300, rate=500, session=900)
    # Longer than a session may be without a message, as with DATA.
    for _ in range(2000):
        assert not pace.is_late(5000, message=True)
        pace.begin(goes_on=True)
        clock.advance(1)
    clock.advance(20_000)
    assert pace.is_late(1, message=True)


def test_who_begins_message_upon_message_is_no_session_without_one() -> None:
    """Each read ended inside a chunk, so that neither the time of a command nor that of the session was looked at."""
    clock = SetClock()
    pace = Pace(clock, line=300, rate=500, session=900)
    waited = 0
    while not pace.is_late(10, message=True):
        pace.begin(goes_on=True)
        clock.advance(250)
        waited += 250
    assert waited == 500
    pace.begin()
    clock.advance(401)
    assert pace.is_late(10, message=True)
