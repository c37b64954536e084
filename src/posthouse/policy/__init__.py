"""Floor 7. What should happen to a message: checks, facts, verdicts."""
