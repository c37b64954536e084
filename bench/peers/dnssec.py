"""Knot and unbound in a private root: signed zones, and a resolver that validates them.

Knot answers for the zones and signs `test`, whose key unbound is told to trust. The zones below `test` that stand
apart are unsigned, or signed with a key that nobody vouches for. Nothing but loopback is asked.
"""

import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from bench.peers.private_root import Daemon, PrivateRoot, Unavailable
from bench.peers.waiting import free_port, wait_for_port, wait_until

PACKAGES = ["knot", "unbound"]

Records = Mapping[str, Mapping[str, Sequence[str] | str]]
"""{"example.test": {"MX": ["10 mx.example.test."]}}"""

_KNOT = """\
server:
  rundir: /peer/knot
  listen: 127.0.0.1@{port}
database:
  storage: /peer/knot
policy:
  - id: ours
    manual: on
    single-type-signing: on
template:
  - id: default
    storage: /peer/etc
    file: "%s.zone"
    zonefile-load: difference
    zonefile-sync: -1
    journal-content: all
zone:
  - domain: test
    dnssec-signing: on
    dnssec-policy: ours
  - domain: insecure.test
  - domain: bogus.test
    dnssec-signing: on
    dnssec-policy: ours
"""

_UNBOUND = """\
server:
  interface: {address}@53
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  do-daemonize: no
  do-ip6: no
  username: ""
  chroot: ""
  directory: /peer
  pidfile: ""
  use-syslog: no
  module-config: "validator iterator"
  trust-anchor: "{anchor}"
  val-log-level: 2
  local-zone: "." static
  local-zone: "test." transparent
{stubs}
remote-control:
  control-enable: no
"""

_STUB = """\
stub-zone:
  name: {zone}.
  stub-addr: 127.0.0.1@{port}
"""

_APEX = "$TTL 300\n@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n@ NS ns.test.\n"
_ZONES = ("test", "insecure.test", "bogus.test")


class SignedNames:
    """`records` below test, insecure.test and bogus.test, answered at `address`:53. Raises Unavailable."""

    def __init__(self, records: Records) -> None:
        self.root = PrivateRoot("names", PACKAGES)
        self.address = _free_address()
        self._port = free_port()
        self._daemon: Daemon | None = None
        (self.root.peer / "etc").mkdir()
        (self.root.peer / "knot").mkdir()
        self._write("etc/knot.conf", _KNOT.format(port=self._port))
        keys = {zone: self._key(zone) for zone in _ZONES if zone != "insecure.test"}
        # Nobody has the key that the parent vouches for.
        delegated = {"insecure.test": {}, "bogus.test": {"DS": "12345 13 2 " + "00" * 32}}
        for zone in _ZONES:
            own = {name: found for name, found in records.items() if _zone_of(name) == zone}
            cuts = {name: {"NS": "ns.test.", **more} for name, more in delegated.items() if zone == "test"}
            nameserver = {"ns.test": {"A": "127.0.0.1"}} if zone == "test" else {}
            self._write(f"etc/{zone}.zone", _APEX + _lines({**nameserver, **cuts, **own}))
        stubs = "".join(_STUB.format(zone=zone, port=self._port) for zone in _ZONES)
        self._write("etc/unbound.conf", _UNBOUND.format(address=self.address, anchor=keys["test"], stubs=stubs))

    def _write(self, name: str, text: str) -> None:
        (self.root.peer / name).write_text(text)

    def _key(self, zone: str) -> str:
        """Make a key that signs this zone; the record that vouches for it."""
        keymgr = ("/usr/sbin/keymgr", "-c", "/peer/etc/knot.conf", f"{zone}.")
        self.root.run(*keymgr, "generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes")
        records = self.root.run(*keymgr, "ds").stdout.splitlines()
        # Digest type 2 is SHA-256.
        (record,) = [line for line in records if line.split()[-2] == "2"]
        return record

    def start(self) -> None:
        """Start both and wait until unbound says that what it answers is verified."""
        # One daemon of the root: its overlay cannot be mounted twice at a time.
        both = "/usr/sbin/knotd -c /peer/etc/knot.conf & exec /usr/sbin/unbound -c /peer/etc/unbound.conf"
        self._daemon = self.root.start("sh", "-c", both, log=self.root.peer / "log")
        # unbound remembers for a minute that it found no key: it is asked when Knot has signed everything.
        for zone in _ZONES:
            wait_until(partial(self._serves, zone), 60, f"an answer about {zone}")
        wait_for_port(self.address, 53, self._daemon.process)
        wait_until(self._verifies, 120, "a verified answer")

    def _serves(self, zone: str) -> bool:
        """Whether Knot tells the zone's SOA record, with its signature where there is to be one."""
        answers = int.from_bytes(_ask("127.0.0.1", self._port, zone)[6:8], "big")
        return answers == (1 if zone == "insecure.test" else 2)

    def _verifies(self) -> bool:
        """RFC 4035 §3.2.3: the AD bit in an answer about test's own SOA record."""
        return bool(_ask(self.address, 53, "test")[3] & 0x20)

    def stop(self) -> None:
        """End both and remove their root."""
        if self._daemon is not None:
            self._daemon.stop()
        self.root.remove()


def _ask(address: str, port: int, zone: str) -> bytes:
    """The answer to a question about a zone's SOA record, with the AD and the DO bit; an empty one where none comes."""
    name = b"".join(bytes([len(label)]) + label.encode() for label in zone.split(".")) + b"\0"
    head = b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01"
    additional = b"\0\0\x29\x10\0\0\0\x80\0\0\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect((address, port))
        try:
            client.send(head + name + b"\0\x06\0\x01" + additional)
            return client.recv(4096)
        except OSError:
            return bytes(12)


def _zone_of(name: str) -> str:
    return next((zone for zone in _ZONES[1:] if name == zone or name.endswith(f".{zone}")), "test")


def _lines(records: Records) -> str:
    return "".join(
        f"{name}. {kind} {value}\n"
        for name, kinds in records.items()
        for kind, values in kinds.items()
        for value in ([values] if isinstance(values, str) else values)
    )


def _free_address() -> str:
    """An address of loopback whose port 53 nobody has: resolv.conf names no other port. Raises Unavailable."""
    for _ in range(1000):
        address = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
        with ExitStack() as stack:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    stack.enter_context(socket.socket(socket.AF_INET, kind)).bind((address, 53))
            except OSError:
                continue
            return address
    raise Unavailable("somebody has port 53 at every address of loopback")
