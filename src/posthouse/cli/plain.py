"""Text that strangers wrote, shown so that it cannot steer the terminal, and times as people say them."""


def printable(text: str) -> str:
    """The text with everything that is no visible character or space spelled out."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)


def length(milliseconds: float) -> str:
    """A span of time, to two digits or so: "0.8 ms", "42 s", "7 min", "3 h", "2 d"."""
    if milliseconds < 10:
        return f"{max(0.0, milliseconds):.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, unit_length, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // unit_length:.0f} {unit}"
    return f"{seconds // 86400:.0f} d"
