"""The storage gateway: real server processes on loopback, killed in the middle of a call."""
