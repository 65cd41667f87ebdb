"""Tests of the client and the command line, against a service that behaves as the contract says."""
