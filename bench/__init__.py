"""Side by side with the peers: each benchmark measures posthouse and another server in the same run."""
