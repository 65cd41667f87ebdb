"""How both ends of a connection notice that the other one is frozen, or gone without a word."""

from __future__ import annotations

Options = list[tuple[str, int]]


def pings(every_s: float = 20.0, answer_s: float = 10.0) -> Options:
    """Return channel or server options: ask a silent peer after so many seconds, and give the
    connection up when it has not answered after so many more."""
    return [
        ("grpc.keepalive_time_ms", round(every_s * 1000)),
        # Two time-outs: one counts while nothing at all arrives, the other for each ping.
        ("grpc.keepalive_timeout_ms", round(answer_s * 1000)),
        ("grpc.http2.ping_timeout_ms", round(answer_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Else pings end after two of them while there is nothing to say.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def pinged() -> Options:
    """Return server options: clients may ask as often as `pings` lets them."""
    return [
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]
