"""Knows TensorFlow, never Kubernetes: agent, task API, loop, data, checkpoints, export."""
