"""Floor 4. Rows, blobs and the bell. Nothing above this room knows which database runs."""
