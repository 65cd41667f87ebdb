"""The contract of Storage."""
