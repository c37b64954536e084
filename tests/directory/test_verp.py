from hypothesis import given
from hypothesis import strategies as st

from posthouse.directory.verp import Verp
from posthouse.terms.address import BadAddress, parse


@given(st.text("abcXYZ019.-_+=", min_size=1, max_size=40), st.sampled_from(["far.example", "a.b.example"]))
def test_a_tag_is_read_back_whatever_becomes_of_its_case(local: str, domain: str) -> None:
    try:
        address = parse(f"{local}@{domain}")
    except BadAddress:
        return
    tag = Verp(b"one").tag(address)
    for written in (tag, tag.upper()):
        found = Verp(b"one").address(written)
        assert found is not None
        assert found.key == address.key
    assert Verp(b"two").address(tag) is None


@given(st.text(max_size=40))
def test_nothing_else_is_read(text: str) -> None:
    assert Verp(b"one").address(text) is None
    assert Verp(b"one").address(f"aaaaaaaa={text}=far.example") is None
