"""Compares how fast the service trains with how fast what somebody would pick instead does."""
