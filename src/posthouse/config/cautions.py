"""Second thoughts: what the configuration may say and should perhaps not. `check-config` and `serve` tell them."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.config.values import Config
from posthouse.written import Target, format_duration


@dataclass(frozen=True, slots=True)
class Caution:
    """A setting that is allowed and deserves a second thought: its key, and why."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def check(config: Config) -> list[Caution]:
    """What is allowed and deserves a second thought, in the order of the file."""
    cautions = []
    for n, listener in enumerate(config.listeners, 1):
        shown = ", ".join(str(endpoint) for endpoint in listener.address)
        if listener.clear_text_login:
            text = f"passwords travel in clear text on {shown} ({listener.protocol}); meant for tests on one machine"
            cautions.append(Caution(f"listener[{n}].clear_text_login", text))
        elif listener.protocol == "smtp" and listener.tls == "none":
            cautions.append(Caution(f"listener[{n}].tls", f"mail is received on {shown} without offering encryption"))
        elif listener.protocol == "lmtp" and not all(endpoint.loopback for endpoint in listener.address):
            text = f"whoever reaches {shown} may deliver to every account, unasked"
            cautions.append(Caution(f"listener[{n}].address", text))
        if listener.clear_text_login and listener.proxy:
            text = f"who comes through a balancer is not on this machine, and logs in in clear text on {shown}"
            cautions.append(Caution(f"listener[{n}].proxy", text))
    if not config.tls.pairs:
        text = "no certificate is configured: a private CA signs one, which strangers' programs do not trust"
        cautions.append(Caution("tls.certificate", text))
    cautions += _check_outward(config)
    return cautions


def _is_near(target: Target) -> bool:
    try:
        return target.path is not None or ipaddress.ip_address(target.host).is_loopback
    except ValueError:
        return target.host == "localhost"


def _check_outward(config: Config) -> Iterator[Caution]:
    remote = [str(endpoint) for endpoint in config.dns.resolver if not endpoint.loopback]
    if remote and config.dns.trusted is None and config.relay.dane:
        text = f"the DNSSEC verdict of {', '.join(remote)} is not trusted, for it can be forged on the way; DANE is off"
        yield Caution("dns.resolver", text)
    elif remote and config.dns.trusted:
        yield Caution("dns.trusted", f"whoever can forge answers of {', '.join(remote)} can forge DNSSEC's verdict too")
    if config.relay.dial is not None:
        yield Caution("relay.dial", f"all outgoing mail is sent to {config.relay.dial}, whatever DNS says")
    for n, route in enumerate(config.routes, 1):
        if route.username and route.tls in ("opportunistic", "require"):
            text = f'whoever answers in the name of {route.to[0].host} is given the password; "verify" is safe'
            yield Caution(f"route[{n}].tls", text)
        for target in route.to:
            if target.kind == "lmtp" and route.tls is None and route.username is None and not _is_near(target):
                yield Caution(f"route[{n}].tls", f"mail travels to {target.host} in clear text; LMTP does unless told")
    for n, listener in enumerate(config.listeners, 1):
        for name in ("proxy", "xclient_from"):
            for network in getattr(listener, name):
                if ipaddress.ip_network(network).prefixlen == 0:
                    yield Caution(f"listener[{n}].{name}", f"{network}: everybody may say that he is somebody else")
    for network in config.relay.trusted_networks:
        if ipaddress.ip_network(network).prefixlen == 0:
            yield Caution("relay.trusted_networks", f"{network}: everybody may send mail through this server")
    if config.relay.tls == "off":
        yield Caution("relay.tls", "all outgoing mail travels in clear text, whatever the recipients' domains ask for")
    elif config.relay.tls == "verify":
        yield Caution("relay.tls", "mail to the many servers without a certificate that verifies will come back")
    if config.queue.expire < 86400:
        # RFC 5321 §4.5.4.1: the give-up time generally needs to be at least 4-5 days.
        text = f"mail is given up after {format_duration(config.queue.expire)}; an outage of a peer often lasts longer"
        yield Caution("queue.expire", text)
