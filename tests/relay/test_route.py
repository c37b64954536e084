"""Which hosts a domain's mail goes to."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.dns import Answer, TemporaryFailure
from posthouse.relay.route import Ipv6, NoRoute, Route, Router, interleave, order
from posthouse.written import Dial, Endpoint
from tests.relay.support import Names
from tests.support import run

OWN = frozenset({"mx.home.example", "mx2.home.example"})


def router(names: Names, *, ipv6: Ipv6 = "last", dial: Dial | None = None, seed: int = 1) -> Router:
    return Router(names, own=OWN, random=Random(seed), ipv6=ipv6, dial=dial)


def find(names: Names, domain: str = "there.example") -> Route:
    return run(router(names).find(domain))


def hosts(route: Route) -> list[str]:
    return [host.name for host in route.hosts]


def why_not(names: Names) -> str:
    with pytest.raises(NoRoute) as caught:
        find(names)
    return f"{caught.value.reply.code} {caught.value.reply.enhanced}"


def test_hosts_come_by_preference() -> None:
    route = find(Names({"there.example": [(20, "b.there.example"), (10, "A.There.Example."), (30, "c.there.example")]}))
    assert hosts(route) == ["a.there.example", "b.there.example", "c.there.example"]
    assert (route.site.partition("+")[0], route.implicit) == ("a.there.example", False)


def test_equals_are_shuffled() -> None:
    names = Names({"there.example": [(10, f"mx{n}.there.example") for n in range(5)] + [(20, "last.there.example")]})
    found = {tuple(hosts(run(router(names, seed=seed).find("there.example")))) for seed in range(20)}
    assert len(found) > 5
    assert {some[-1] for some in found} == {"last.there.example"}
    (site,) = {run(router(names, seed=seed).find("there.example")).site for seed in range(5)}
    assert site.startswith("mx0.there.example+")


def test_who_names_another_s_host_beside_his_own_does_not_share_its_site() -> None:
    """Else his own, which answers nobody, or says that it is too busy, would hold up what goes to the other's."""
    big = (10, "mx.big.example")
    names = Names(
        {
            "big.example": [big],
            "customer.example": [(5, "mx.big.example")],
            "evil.example": [big, (10, "zz.evil.example")],
            "behind.example": [big, (20, "zz.evil.example")],
        }
    )
    sites = {domain: find(names, domain).site for domain in names.mx_records}
    assert sites["big.example"] == sites["customer.example"] == "mx.big.example"
    assert len(set(sites.values())) == 2
    assert sites["evil.example"] == sites["behind.example"] != "mx.big.example"


def test_a_domain_without_mx_is_its_own_host() -> None:
    route = find(Names({}, {"there.example": ["192.0.2.1"]}))
    assert (hosts(route), route.implicit) == (["there.example"], True)


def test_an_address_literal_is_the_host_and_no_name_is_asked_for() -> None:
    names = Names()
    route = find(names, "[IPv6:2001:db8::1]")
    assert run(router(names).addresses(hosts(route)[0])) == [Endpoint("2001:db8::1", 25)]
    assert run(router(names).addresses("[192.0.2.1]")) == [Endpoint("192.0.2.1", 25)]
    assert names.asked == []


def test_a_null_mx_takes_no_mail() -> None:
    assert why_not(Names({"there.example": [(0, "")]})) == "556 5.1.10"
    # RFC 7505 §3 forbids others beside it; who has them means them.
    assert hosts(find(Names({"there.example": [(0, ""), (10, "a.there.example")]}))) == ["a.there.example"]


def test_no_such_domain_fails_and_a_dns_that_is_ill_defers() -> None:
    assert why_not(Names({"there.example": "nxdomain"})) == "550 5.1.2"
    assert why_not(Names({"there.example": "servfail"})) == "451 4.4.3"


def test_we_and_those_less_preferred_are_left_out() -> None:
    records = [(10, "better.example"), (20, "MX.home.example"), (20, "equal.example"), (30, "worse.example")]
    assert hosts(find(Names({"there.example": records}))) == ["better.example"]


def test_mail_that_would_come_back_to_us_goes_nowhere() -> None:
    assert why_not(Names({"there.example": [(10, "mx.home.example"), (20, "other.example")]})) == "554 5.4.6"
    with pytest.raises(NoRoute) as caught:
        run(router(Names()).find("mx.home.example"))
    assert caught.value.reply.enhanced == "5.4.6"


@pytest.mark.parametrize(
    ("ipv6", "expected"),
    [("last", ["192.0.2.1", "2001:db8::1"]), ("first", ["2001:db8::1", "192.0.2.1"]), ("never", ["192.0.2.1"])],
)
def test_families_come_as_configured(ipv6: Ipv6, expected: list[str]) -> None:
    names = Names({}, {"a.example": ["192.0.2.1", "2001:db8::1"]})
    assert [one.host for one in run(router(names, ipv6=ipv6).addresses("a.example"))] == expected


class Named(Names):
    """Our own address has a name, or DNS is asked in vain."""

    async def ptr(self, address: str) -> Answer[str]:
        if address != "2001:db8::9":
            raise TemporaryFailure(address, "servfail")
        return Answer(("mx.home.example",), 60, False, address)


@pytest.mark.parametrize(
    ("names", "source", "first"),
    [
        (Named, ("192.0.2.9", "2001:db8::9"), "2001:db8::1"),
        (Named, ("2001:db8::8",), "192.0.2.1"),
        (Names, ("2001:db8::9",), "192.0.2.1"),
    ],
)
def test_ipv6_is_preferred_where_our_address_has_a_name(
    names: type[Names], source: tuple[str, ...], first: str
) -> None:
    found = names({}, {"a.example": ["192.0.2.1", "2001:db8::1"]})
    asking = Router(found, own=OWN, random=Random(1), ipv6="auto", source=source)
    assert run(asking.addresses("a.example"))[0].host == first


def test_families_take_turns() -> None:
    assert interleave(["1", "2", "3"], ["a"]) == ["1", "a", "2", "3"]
    assert interleave([], ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(("found", "code"), [("nxdomain", 550), ("servfail", 451), ((), 550)])
def test_a_host_without_address(found: str, code: int) -> None:
    with pytest.raises(NoRoute) as caught:
        run(router(Names({}, {"a.example": found})).addresses("a.example"))
    assert caught.value.reply.code == code


def test_what_is_dialled_can_be_overridden() -> None:
    names = Names({}, {"a.example": ["192.0.2.1"]})
    assert run(router(names, dial=Dial("127.0.0.1", 2525)).addresses("a.example")) == [Endpoint("127.0.0.1", 2525)]
    assert names.asked == []
    assert run(router(names, dial=Dial(None, 2525)).addresses("a.example")) == [Endpoint("192.0.2.1", 2525)]
    assert run(router(names, dial=Dial("127.0.0.1", None)).addresses("a.example")) == [Endpoint("127.0.0.1", 25)]


names_of_hosts = st.sampled_from(["a.example", "b.example", "c.example", "mx.home.example", "mx2.home.example"])


@given(st.lists(st.tuples(st.integers(0, 5), names_of_hosts), max_size=8), st.integers(0, 100))
def test_a_route_never_leads_to_us_nor_past_us(records: list[tuple[int, str]], seed: int) -> None:
    found = order(records, OWN, Random(seed))
    ours = min((preference for preference, name in records if name in OWN), default=99)
    assert sorted(host.preference for host in found) == [host.preference for host in found]
    assert all(host.preference < ours and host.name not in OWN for host in found)
    assert sorted((h.preference, h.name) for h in found) == sorted(one for one in records if one[0] < ours)
