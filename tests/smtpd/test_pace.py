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
