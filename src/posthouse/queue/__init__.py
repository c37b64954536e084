"""Floor 7. The durable queue: lanes, leases, schedule, outcomes, bounces."""
