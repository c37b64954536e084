"""Text of strangers that is to stand in a line: what UTF-8 allows and what no line may hold.

Promises: one answer for whoever takes such text and whoever says it. Refuses: to judge what is merely unusual; joiners,
marks and wide spaces are ordinary in many languages.
"""

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_line(text: str) -> bool:
    """True where the text holds no control character (C0, DEL, C1) and no separator of lines or paragraphs (RFC 5198
    §2), nor a surrogate, which UTF-8 cannot write.
    """
    return text.isprintable() or _CONTROL.search(text) is None
