"""Fuzzing: every reader of what comes from outside, and every RPC, over inputs nobody sends."""
