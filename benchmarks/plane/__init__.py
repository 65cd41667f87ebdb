"""The parts of `benchmarks.control_plane`: a real controller whose pods are only told of, agents
that are only a stream each, and clients that note when things come."""
