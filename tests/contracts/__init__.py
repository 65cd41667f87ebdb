"""Contract tests: what every adapter of a port does, run against the fake and the real one."""
