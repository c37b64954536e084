"""What security the way to a host must have: from what is configured, what the recipient's domain published, and what
the sender wants, to one value.

Promises: `required` is a plain function, and the whole of the decision. A recipient's policy only ever raises what is
configured; TLS-Required: No takes back what the recipient's policy demands, never what is configured.
DANE is asked first, and where it speaks MTA-STS is silent (RFC 8461 §2): the host's name is then vouched for by DNSSEC.
Refuses: to ask DNS, to connect, to count.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from posthouse.net.answer import Tlsa
from posthouse.terms.reply import Reply
from posthouse.trust import dane
from posthouse.trust.mta_sts import Policy
from posthouse.trust.tlsrpt import NO_POLICY, Basis, Failure

Encryption = Literal["off", "opportunistic", "require", "verify"]
_RANK: Final[dict[Encryption, int]] = {"off": 0, "opportunistic": 1, "require": 2, "verify": 3}


class Wish(Enum):
    """What the sender of a message wants: RFC 8689's REQUIRETLS, its "TLS-Required: No", or nothing."""

    NONE = "none"
    TLS = "tls"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How a hop is spoken to; connections are shared only under equal ones.

    `off`: in clear text. `opportunistic`: encrypted where the peer can, whoever it is. `require`: encrypted. `verify`:
    with a certificate for the hop's name from an authority that we trust; or, where `tlsa` holds usable records, one
    that these speak of: `names` is what it may be for then, and the first is asked for in the handshake.
    `fallback`: what to try where `verify` fails; None where mail then does not go.
    """

    mode: Encryption = "opportunistic"
    fallback: Encryption | None = None
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()

    @property
    def weaker(self) -> "TlsPolicy | None":
        """What to try where TLS did not come about; None where nothing less will do."""
        if self.mode == "opportunistic":
            return TlsPolicy("off")
        return None if self.fallback is None else TlsPolicy(self.fallback)


OPPORTUNISTIC: Final = TlsPolicy()


@dataclass(frozen=True, slots=True)
class Dane:
    """That DNSSEC vouches for TLSA records of a host: where they stand, and those that can be used."""

    base: str
    usable: tuple[Tlsa, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A host that mail is about to be offered to, for recipients of `domain`.

    `by_mx`: DNS named it; else the operator did. `vouched`: it is the domain's by DNSSEC, or the domain itself, or the
    operator's choice.
    """

    domain: str
    host: str
    port: int = 25
    by_mx: bool = True
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class Required:
    """What the way to a host must have.

    `basis` is whose demand it is, for reports. `refusal`: no mail may go there. `failure` and `reason` tell what is
    wrong before anything was tried, whether or not mail goes. `authentic`: the host's name is believed (RFC 8689 §2).
    """

    policy: TlsPolicy
    basis: Basis = NO_POLICY
    refusal: Reply | None = None
    failure: Failure | None = None
    reason: str = ""
    authentic: bool = False


def required(
    own: TlsPolicy, target: Target, *, sts: Policy | None = None, tlsa: Dane | None = None, wish: Wish = Wish.NONE
) -> Required:
    """What security mail for the target must have.

    `own`: what is configured. `sts`: the policy of its domain, None where there is none; `tlsa`: None where none is
    published, or none that DNSSEC vouches for.
    """
    demand = Required(own) if own.mode == "off" else _demanded(own, target, sts, tlsa)
    if wish is Wish.DELIVERY:
        return _lenient(demand, own)
    if wish is Wish.TLS:
        return _strict(demand, target)
    return demand


def _demanded(own: TlsPolicy, target: Target, sts: Policy | None, tlsa: Dane | None) -> Required:
    if tlsa is not None and tlsa.usable:
        return Required(_by_dane(target, tlsa), _dane_basis(tlsa), authentic=True)
    demand = Required(own, authentic=target.vouched)
    if tlsa is not None:
        # RFC 7672 §2.2: records that cannot be used still say that there is TLS; whose, nobody can tell by them.
        policy = own if _RANK[own.mode] > _RANK["require"] else TlsPolicy("require")
        reason = "none of its TLSA records can be used"
        demand = Required(policy, _dane_basis(tlsa), failure="tlsa-invalid", reason=reason, authentic=target.vouched)
    if sts is not None and sts.mode != "none":
        return _by_sts(demand, target, sts)
    return demand


def _by_dane(target: Target, tlsa: Dane) -> TlsPolicy:
    """RFC 7672 §3.2.2: below a trust anchor the certificate may name the base, the host or the domain. An end entity is
    known by its key alone, and then any domain may share the connection."""
    names = dict.fromkeys(filter(None, (tlsa.base, target.host, target.domain)))
    if all(record.usage == dane.END_ENTITY for record in tlsa.usable):
        names = dict.fromkeys((tlsa.base,))
    return TlsPolicy("verify", None, tuple(names), tlsa.usable)


def _dane_basis(tlsa: Dane) -> Basis:
    lines = [f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in tlsa.usable]
    return Basis("tlsa", tuple(lines))


def _by_sts(demand: Required, target: Target, sts: Policy) -> Required:
    """RFC 8461 §5: enforce refuses what does not fit; testing lets it pass, and reports."""
    enforced = sts.mode == "enforce"
    basis = Basis("sts", tuple(str(sts).splitlines()))
    if sts.allows(target.host):
        fallback = None if enforced or demand.policy.mode == "verify" else demand.policy.mode
        return Required(TlsPolicy("verify", fallback), basis, authentic=True)
    reason = f"{target.host} is no host that the MTA-STS policy of {target.domain} allows"
    refusal = Reply(451, "4.7.5", reason) if enforced else None
    # The certificate of a host that should not be there is beside the point.
    return replace(
        demand, basis=basis, refusal=refusal, failure="validation-failure", reason=reason, authentic=target.vouched
    )


def _lenient(demand: Required, own: TlsPolicy) -> Required:
    """RFC 8689 §4.2.2: follow the recipient's policy, but do not fail where that fails."""
    policy = demand.policy
    if _RANK[policy.mode] > _RANK[own.mode]:
        policy = replace(policy, fallback=own.mode) if policy.mode == "verify" else own
    return replace(demand, policy=policy, refusal=None)


def _strict(demand: Required, target: Target) -> Required:
    """RFC 8689 §4.2.1: a name that somebody vouches for, and a certificate that proves it."""
    if demand.refusal is not None or not demand.authentic:
        why = f"nothing vouches for {target.host} as a host of {target.domain}"
        return replace(demand, refusal=encryption_needed(demand.reason or why))
    return replace(demand, policy=replace(demand.policy, mode="verify", fallback=None))


def encryption_needed(why: str) -> Reply:
    """RFC 8689 §4.2.1: what a message that requires TLS is returned with."""
    return Reply(550, "5.7.10", f"This message requires verified TLS on its way, and there is none: {why}")


def requiretls_missing(host: str) -> Reply:
    """RFC 8689 §4.2.1, for a server that does not promise to hand it on in the same way."""
    return Reply(
        550, "5.7.30", f"This message requires TLS on all of its way, which {host} does not promise (REQUIRETLS)"
    )
