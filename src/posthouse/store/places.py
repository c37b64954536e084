"""Which places this installation's blobs have. A new kind of place is a file of its own, and a line here.

Promises: whoever opens the store's blobs, the server or a command, opens the same places.
"""

from pathlib import Path

from posthouse.config import values
from posthouse.store.blob_files import BlobFiles
from posthouse.store.blobs import Blobs


def open_blobs(data: Path, settings: values.Store, limits: values.Limits) -> Blobs:
    """The blobs of the store in the directory `data`. Whoever opens them closes them. Raises OSError."""
    directory = data / "blobs"
    return Blobs(
        directory,
        [BlobFiles(directory)],  # the first takes what is new
        memory_budget=limits.unfinished_memory,
        disk_budget=limits.unfinished_disk,
        inline_limit=settings.inline,
    )
