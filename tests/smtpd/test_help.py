from posthouse.smtpd import help
from posthouse.wire.smtp.table import VERBS


def test_each_command_is_told_of_in_octets_that_every_client_takes() -> None:
    # RFC 5321 §4.2
    verbs = sorted({verb for kind in VERBS.values() for verb in kind})
    for text in ("", *verbs, "me"):
        reply = help.answer(text, verbs)
        assert reply.octets().isascii()
        assert all(len(line) <= 512 for line in reply.octets().splitlines(keepends=True))
