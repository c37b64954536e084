"""Floor 8. Carrying a message to the next MTA: route and courier."""
