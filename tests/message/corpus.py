"""Small hand-made messages, each in a file named after what is odd about it."""

from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "corpus"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.eml"))


def load(name: str) -> bytes:
    """The octets of one of them."""
    return (DIRECTORY / f"{name}.eml").read_bytes()
