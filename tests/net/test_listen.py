"""Binding, and taking what systemd bound."""

import grp
import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from posthouse.net.listen import BindError, bind, inherited, raise_descriptor_limit, tune_allocator
from posthouse.written import Endpoint


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def test_a_port_in_use_is_one_clear_line() -> None:
    first = bind(Endpoint("127.0.0.1", 0))
    port = first[0].getsockname()[1]
    with pytest.raises(BindError) as caught:
        bind(Endpoint("127.0.0.1", port))
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: port {port} is in use by another program"
    with pytest.raises(BindError, match=f"cannot listen on .*: port {port} is in use"):
        bind(Endpoint("*", port))
    close(first)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(BindError, match=r"cannot listen on 192\.0\.2\.1:2525: this machine has no such address"):
        bind(Endpoint("192.0.2.1", 2525))


def test_a_star_is_every_address_on_one_port() -> None:
    sockets = bind(Endpoint("*", 0))
    assert sockets[0].family == socket.AF_INET
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)
    close(sockets)


def test_an_inherited_socket_is_taken_where_it_fits() -> None:
    (given,) = bind(Endpoint("127.0.0.1", 0))
    port = given.getsockname()[1]
    assert bind(Endpoint("127.0.0.1", port), [given]) == [given]
    given.close()


def test_all_that_were_inherited_for_a_star_are_taken() -> None:
    """One a family, as a socket unit with two ListenStream= hands them over."""
    given = bind(Endpoint("*", 0))
    (other,) = bind(Endpoint("127.0.0.1", 0))
    try:
        assert len(given) == 2
        assert bind(Endpoint("*", given[0].getsockname()[1]), [given[0], other, given[1]]) == given
    finally:
        close([*given, other])


def test_systemd_hands_over_sockets_to_this_very_process() -> None:
    wrong = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
    assert inherited(wrong) == []
    assert wrong == {}
    assert inherited({}) == []
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


def test_sockets_are_inherited_by_number() -> None:
    """In a program of its own: the numbers from 3 on are taken in this one, which may have threads, too."""
    (given,) = bind(Endpoint("127.0.0.1", 0))
    taking = (
        "import os, sys; from posthouse.net.listen import inherited; os.dup2(int(sys.argv[1]), 3);"
        'taken, = inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}); print(taken.getsockname())'
    )
    told = subprocess.run(
        [sys.executable, "-c", taking, str(given.fileno())],
        pass_fds=[given.fileno()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout) == (0, f"{given.getsockname()}\n"), told.stderr
    given.close()


def test_the_allocator_can_be_tuned_twice() -> None:
    assert tune_allocator() == tune_allocator()


def test_descriptors_up_to_what_is_allowed() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        found = raise_descriptor_limit()
        assert found == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(soft, 1000)
        assert raise_descriptor_limit() == found
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_unix_socket_is_ours_alone(tmp_path: Path) -> None:
    endpoint = Endpoint(str(tmp_path / "lmtp"), 0)
    (bound,) = bind(endpoint)
    assert stat.S_IMODE((tmp_path / "lmtp").stat().st_mode) == 0o600
    with pytest.raises(BindError, match=r"cannot listen on unix:/.*lmtp: address already in use"):
        bind(endpoint)
    assert bind(endpoint, [bound]) == [bound]
    bound.close()
    # What a predecessor left behind is nobody's.
    close(bind(endpoint))


def test_a_unix_socket_is_shared_with_a_group(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    close(bind(Endpoint(str(tmp_path / "lmtp"), 0), group=group))
    assert stat.S_IMODE((tmp_path / "lmtp").stat().st_mode) == 0o660
    with pytest.raises(BindError, match="there is no group of nobody"):
        bind(Endpoint(str(tmp_path / "other"), 0), group="of nobody")


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mail")
    with pytest.raises(BindError, match="address already in use"):
        bind(Endpoint(str(tmp_path / "precious"), 0))
    assert (tmp_path / "precious").read_text() == "mail"
