"""A real Kubernetes of two nodes on one plain machine, and the tests that need one."""
