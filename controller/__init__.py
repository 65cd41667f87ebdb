"""Knows jobs, workers and where they live; never TensorFlow."""
