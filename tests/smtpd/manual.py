"""Makes docs/smtp-support.md of the tables in the source: python -m tests.smtpd.manual"""

from pathlib import Path

from posthouse.smtpd.replies import replies_markdown
from posthouse.wire.smtp.extensions import extensions_markdown

PAGE = Path(__file__).parents[2] / "docs" / "smtp-support.md"

_TOP = """# SMTP: what is spoken

Made of `wire/smtp/extensions.py` and `smtpd/replies.py` by `python -m tests.smtpd.manual`; a test compares. What is
legal when stands in [wire.md](wire.md), how the doors work in [smtpd.md](smtpd.md).

## Extensions

At submission `AUTH` is announced in TLS, and in the clear only where `clear_text_login` allows it. `SCRAM-SHA-256-PLUS`
is bound by `tls-exporter` (RFC 9266, in TLS 1.3) or `tls-server-end-point` (RFC 5929), as the client likes; `EXTERNAL`
is offered to whoever has shown a certificate (`tls.client_authorities`).

"""

_REPLIES = """
## Replies

"""


def render() -> str:
    """The whole page."""
    return _TOP + extensions_markdown() + _REPLIES + replies_markdown()


if __name__ == "__main__":
    PAGE.write_text(render())
