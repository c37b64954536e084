"""Floor 2. The configuration: one TOML file becomes frozen values, and each room is given its slice of them."""
