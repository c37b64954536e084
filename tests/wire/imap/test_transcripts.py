"""The IMAP engine's transcripts, each whole, line by line and octet by octet."""

from pathlib import Path

import pytest

from tests import transcript
from tests.wire.imap.talk import Talk


@pytest.mark.parametrize("pieces", transcript.PIECES)
@pytest.mark.parametrize("path", transcript.scripts("imap"), ids=lambda path: path.stem)
def test_transcript(path: Path, pieces: transcript.Pieces) -> None:
    script = transcript.read(path)
    transcript.play(script, Talk(script.settings), pieces=pieces)
