"""Floor 14. The posthouse command."""
