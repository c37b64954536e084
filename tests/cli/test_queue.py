import json
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from posthouse import journey
from posthouse.clock import SetClock
from posthouse.queue import control, lanes
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Dooms, Fate, Outcome
from posthouse.queue.queue import NewRecipient
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.cli.support import Command
from tests.queue.support import Script, World, mark
from tests.support import run

T = TypeVar("T")

CODE = journey.new_id(1_767_225_600_000, 7)
BUSY = Reply(451, "4.3.0", "Not now\nperhaps later")


def in_world(command: Command, work: Callable[[World], Awaitable[T]]) -> T:
    """Do something to the installation's queue, as its server would."""

    async def main() -> T:
        world = World(command.configuration.parent / "data", SetClock(time.time_ns() // 1_000_000))
        try:
            return await work(world)
        finally:
            await world.store.close()

    return run(main())


@pytest.fixture
def busy(command: Command) -> Command:
    """Three recipients wait: two of a message that a far server deferred, one of another that nobody tried."""

    async def fill(world: World) -> None:
        await world.send("bob@far.example", "Carol@far.example", journey=CODE)
        far = Outcome(0, Fate.DEFERRED, BUSY, Dooms.RECIPIENT, "mx.far.example")
        runner = world.runner(Script({"bob@far.example": [far], "Carol@far.example": [far]}))
        await world.settle(runner)
        await world.send("dave@near.example", sender=None, journey=CODE + 1)

    in_world(command, fill)
    return command


def test_an_empty_queue(command: Command) -> None:
    assert command("queue", "list") == "The queue is empty.\n"
    assert command("queue", "lanes") == "The queue is empty.\n"
    assert command.json("queue", "list") == {"recipients": [], "after": None}
    assert command("queue", "list", "--sender", "a@b.example") == "Nothing in the queue fits.\n"


def test_list_shows_what_waits_and_why(busy: Command) -> None:
    lines = busy("queue", "list").splitlines()
    assert lines[0].split() == ["ID", "WAITS", "SIZE", "FROM", "TO", "TRIES", "NEXT", "TRY"]
    assert lines[1].split()[0] == "1.1"
    assert "alice@home.example  bob@far.example" in lines[1]
    assert lines[2] == "    mx.far.example said: 451 4.3.0 Not now / perhaps later"
    assert lines[5].split()[-4:] == ["<>", "dave@near.example", "0", "now"]
    assert len(lines) == 6


def test_list_as_json(busy: Command) -> None:
    told = busy.json("queue", "list")
    assert told["after"] is None
    bob, _, dave = told["recipients"]
    assert (bob["id"], bob["recipient"], bob["destination"]) == ("1.1", "bob@far.example", "domain:far.example")
    assert (bob["attempts"], bob["held"], bob["in_flight"]) == (1, False, False)
    assert bob["journey"] == journey.code(CODE)
    assert bob["last_reply"] == "451 4.3.0 Not now / perhaps later"
    assert bob["last_remote"] == "mx.far.example"
    assert bob["due_at"].endswith("Z")
    assert (dave["sender"], dave["attempts"], dave["last_reply"]) == (None, 0, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--sender", "alice@home.example"), ["1.1", "1.2"]),
        (("--sender", "<>"), ["2.3"]),
        (("--recipient", "carol@FAR.example"), ["1.2"]),
        (("--destination", "Far.example."), ["1.1", "1.2"]),
        (("--destination", "domain:near.example"), ["2.3"]),
        (("--destination", "FAR。example"), ["1.1", "1.2"]),
        (("--recipient", "<bob@FAR。example>"), ["1.1"]),
        (("--destination", "far.example", "--recipient", "bob@far.example"), ["1.1"]),
        (("--after", "1.1"), ["1.2", "2.3"]),
        (("--sender", "nobody@home.example"), []),
    ],
)
def test_list_selects(busy: Command, options: tuple[str, ...], expected: list[str]) -> None:
    assert [one["id"] for one in busy.json("queue", "list", *options)["recipients"]] == expected


def test_a_long_list_says_where_to_go_on(busy: Command) -> None:
    assert busy("queue", "list", "--limit", "2").endswith("More wait: --after 1.2, or a higher --limit.\n")
    told = busy.json("queue", "list", "--limit", "2")
    assert ([one["id"] for one in told["recipients"]], told["after"]) == (["1.1", "1.2"], "1.2")
    assert busy.json("queue", "list", "--limit", "3")["after"] is None


def test_show_tells_everything_about_a_message(busy: Command) -> None:
    code = journey.code(CODE)
    shown = busy("queue", "show", "1.2")
    assert "From         alice@home.example\n" in shown
    assert f"Journey      {code} (`posthouse journey {code}` tells it all)\n" in shown
    assert "To bob@far.example, id 1.1\n" in shown
    assert "To Carol@far.example, id 1.2\n" in shown
    assert "  attempts   1\n" in shown
    assert "  next try   in " in shown
    assert "  last reply from mx.far.example:\n    451-4.3.0 Not now\n    451 4.3.0 perhaps later\n" in shown
    assert "To Carol@far.example, id 1.2\n" in busy("queue", "show", code.upper())


def test_show_a_bounce_that_was_not_tried(busy: Command) -> None:
    shown = busy("queue", "show", "2.3")
    assert "From         <> (a report, which is never bounced)\n" in shown
    assert "last reply" not in shown


def test_show_as_json(busy: Command) -> None:
    told = busy.json("queue", "show", "1.1")
    assert (told["journey"], told["body"], told["smtputf8"]) == (journey.code(CODE), "7BIT", False)
    assert [one["id"] for one in told["recipients"]] == ["1.1", "1.2"]


def test_what_is_not_there(busy: Command) -> None:
    for verb in ("show", "retry", "hold", "release"):
        assert busy.error("queue", verb, "9.9").startswith("nothing in the queue has the id 9.9; `posthouse journey`")
    assert busy.error("queue", "drop", "9.9", "--yes").startswith("nothing in the queue has the id 9.9")
    gone = journey.code(CODE + 5)
    assert busy.error("queue", "show", gone).startswith(f"nothing in the queue has the id {gone}")
    assert busy.error("queue", "hold", "--sender", "x@y.example") == "nothing in the queue fits"
    assert busy.error("queue", "hold", "1.1", "--sender", "x@y.example") == "nothing in the queue fits"
    assert busy.result("queue", "show", "not-an-id").exit_code == 2


def test_saying_nothing_does_not_mean_everything(busy: Command) -> None:
    for verb in ("retry", "hold", "release"):
        assert busy.error("queue", verb) == "which? Give an ID, --sender, --recipient, --destination, or --all"
    assert busy.error("queue", "drop", "--yes").startswith("which?")


def test_hold_and_release(busy: Command) -> None:
    assert busy("queue", "hold", "1.1", "2.3") == "2 recipients held\n"
    assert [one["held"] for one in busy.json("queue", "list")["recipients"]] == [True, False, True]
    assert busy("queue", "list").splitlines()[1].endswith("held")
    assert busy("queue", "release", "--all") == "2 recipients released\n"
    assert not any(one["held"] for one in busy.json("queue", "list")["recipients"])
    assert busy.json("queue", "hold", journey.code(CODE)) == {"count": 2, "under_way": 0}


def test_a_hold_tells_of_what_is_being_handed_over(busy: Command) -> None:
    async def hand_over(world: World) -> None:
        now = world.clock.now()
        (dave,) = await world.store.read(control.list_recipients, Selection(recipient="dave@near.example"), now)
        held = await world.store.write(lanes.lease, dave.lane, now, now + 600_000)
        assert held is not None
        assert await world.store.write(mark, held, [dave.id])

    in_world(busy, hand_over)
    behind = "; 1 recipient being handed over just now may still be sent\n"
    assert busy("queue", "hold", "--all") == f"2 recipients held{behind}"
    assert busy.json("queue", "hold", "2.3") == {"count": 0, "under_way": 1}
    whole = ("queue", "hold", "--destination", "near.example")
    assert busy(*whole) == f"domain:near.example is held, with what comes later{behind}"
    assert busy.json(*whole)["under_way"] == 1


def test_holding_a_destination_holds_what_comes_later(busy: Command) -> None:
    assert (
        busy("queue", "hold", "--destination", "new.example") == "domain:new.example is held, with what comes later\n"
    )
    in_world(busy, lambda world: world.send("x@new.example", journey=CODE + 2))
    assert [one["held"] for one in busy.json("queue", "list", "--destination", "new.example")["recipients"]] == [True]
    assert [lane["held"] for lane in busy.json("queue", "lanes") if lane["destination"] == "domain:new.example"] == [
        True,
        True,
    ]
    assert busy("queue", "release", "--destination", "new.example") == "domain:new.example is released\n"
    assert busy.error("queue", "release", "--destination", "new.example") == "domain:new.example is not held"
    assert busy.json("queue", "list", "--destination", "new.example")["recipients"][0]["held"] is False


def test_retry_does_not_say_that_it_tries_what_is_held(busy: Command) -> None:
    busy("queue", "hold", "1.1")
    busy("queue", "hold", "--destination", "near.example")
    assert busy("queue", "retry", "1.1") == "0 recipients to be tried now\n"
    assert busy("queue", "retry", "--destination", "near.example") == "0 recipients to be tried now\n"
    assert busy("queue", "retry", "1.2") == "1 recipient to be tried now\n"


def test_retry_makes_it_due(busy: Command) -> None:
    assert busy("queue", "retry", "--recipient", "bob@far.example") == "1 recipient to be tried now\n"
    script = Script()
    in_world(busy, lambda world: world.settle(world.runner(script)))
    assert sorted(address for _, addresses in script.seen for address in addresses) == [
        "bob@far.example",
        "dave@near.example",
    ]


def test_drop_asks_first_and_bounces_nothing(busy: Command) -> None:
    assert busy.result("queue", "drop", "1.1", stdin="n\n").exit_code == 1
    assert len(busy.json("queue", "list")["recipients"]) == 3
    assert busy("queue", "drop", "1.1", stdin="y\n") == "1 recipient dropped\n"
    assert json.loads(busy("queue", "drop", "--all", "--yes", "--json")) == {"count": 2}
    assert busy("queue", "list") == "The queue is empty.\n"
    assert "dropped for bob@far.example: dropped by hand" in busy("journey", journey.code(CODE))


def test_lanes(busy: Command) -> None:
    shown = busy("queue", "lanes").splitlines()
    assert shown[0].split() == ["DESTINATION", "SENDER", "WAITING", "FAILURES", "NEXT", "TRY"]
    assert shown[1].split()[:4] == ["domain:far.example", "home.example", "2", "0"]
    assert [lane["recipients"] for lane in busy.json("queue", "lanes")] == [2, 1]


def test_words_of_a_peer_do_not_steer_the_terminal(command: Command) -> None:
    async def fill(world: World) -> None:
        await world.send("bob@far.example", journey=CODE)
        said = Outcome(0, Fate.DEFERRED, Reply(451, None, "clear \x1b[2J"), Dooms.RECIPIENT, "mx.far.example")
        await world.settle(world.runner(Script({"bob@far.example": [said]})))

    in_world(command, fill)
    for shown in (command("queue", "list"), command("queue", "show", "1.1")):
        assert "\x1b" not in shown
        assert "\\x1b[2J" in shown


def test_show_tells_what_was_said_in_the_last_attempts(busy: Command) -> None:
    shown = busy("queue", "show", "1.1")
    assert "\nAttempts\n\n" in shown
    attempts = shown.partition("\nAttempts\n\n")[2]
    assert "bob@far.example" in attempts
    assert "451 4.3.0 Not now / perhaps later" in attempts
    told = busy.json("queue", "show", "1.1")
    assert [step["kind"] for step in told["steps"]] == ["recipient.deferred", "recipient.deferred"]
    assert "Attempts" not in busy("queue", "show", "2.3")


def test_reroute_to_a_host_a_route_and_back(busy: Command) -> None:
    with busy.configuration.open("a") as file:
        file.write('[[route]]\nname = "office"\nto = "smtp://127.0.0.1:2525"\nrecipient = "office.example"\n')

    def destinations() -> list[str]:
        return [one["destination"] for one in busy.json("queue", "list")["recipients"]]

    assert (
        busy("queue", "reroute", "1.1", "--to", "Backup.example") == "1 recipient rerouted to domain:backup.example\n"
    )
    assert busy("queue", "reroute", "1.2", "--to", "office") == "1 recipient rerouted to route:office\n"
    assert busy("queue", "reroute", "2.3", "--to", "route:office") == "1 recipient rerouted to route:office\n"
    assert destinations() == ["domain:backup.example", "route:office", "route:office"]
    assert busy("queue", "reroute", "--destination", "route:office", "--to", "mx") == "2 recipients rerouted to MX\n"
    assert destinations() == ["domain:backup.example", "domain:far.example", "domain:near.example"]
    assert busy.error("queue", "reroute", "1.1", "--to", "route:home") == "the configuration has no route home"
    assert busy.error("queue", "reroute", "1.1", "--to", "no host").startswith("no host: neither a route")
    assert "sent another way for bob@far.example: domain:backup.example" in busy("journey", journey.code(CODE))


def test_bounce_gives_up_now_and_tells_the_sender(busy: Command) -> None:
    assert busy.result("queue", "bounce", "1.1", stdin="n\n").exit_code == 1
    assert busy("queue", "bounce", "1.1", stdin="y\n") == "1 recipient given up\n"
    left = busy.json("queue", "list")["recipients"]
    assert [one["recipient"] for one in left] == ["Carol@far.example", "dave@near.example", "alice@home.example"]
    assert (left[-1]["sender"], left[-1]["destination"]) == (None, "domain:home.example")
    assert "Given up by the postmaster" in busy("journey", journey.code(CODE))
    assert busy("queue", "bounce", "--all", "--yes") == "3 recipients given up\n"
    assert "Carol" not in busy("queue", "list")


def test_who_means_many_is_asked_first(command: Command) -> None:
    async def fill(world: World) -> None:
        await world.send(*[f"u{n}@far.example" for n in range(150)], journey=CODE)

    in_world(command, fill)
    asked = command.result("queue", "retry", "--all", stdin="n\n")
    assert asked.exit_code == 1
    assert "This concerns 150 recipients. Go on?" in asked.stderr
    assert command("queue", "retry", "--all", "--yes") == "150 recipients to be tried now\n"
    assert command("queue", "hold", "--sender", "alice@home.example", stdin="y\n") == "150 recipients held\n"
    assert "Drop 150 recipients from the queue" in command.result("queue", "drop", "--all", stdin="n\n").stderr


def test_mail_that_is_to_leave_later_says_so_and_is_released(command: Command) -> None:
    async def fill(world: World) -> None:
        later = NewRecipient(parse("bob@far.example"), due_at=world.clock.now() + 7_200_000)
        await world.send(later, journey=CODE)

    in_world(command, fill)
    assert command("queue", "list").splitlines()[1].endswith(", as its sender wants")
    assert "as its sender wants" in command("queue", "show", "1.1")
    assert command.json("queue", "list")["recipients"][0]["scheduled"] is True
    assert command("queue", "retry", "1.1") == "0 recipients to be tried now\n"
    assert command("queue", "release", "1.1") == "1 recipient released\n"
    assert command.json("queue", "list")["recipients"][0]["scheduled"] is False
