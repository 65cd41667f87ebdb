"""The whole service on one machine: real controller, agents, trainers, killed in every way."""
