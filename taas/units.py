"""Numbers as people read them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

# Everything that could move the cursor, change colours or ring the bell of a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def size(count: float) -> str:
    """Return bytes as "123 B", "1.5 MB", "2.0 GB" (powers of 1024)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds as "5s", "3m 20s", "2h 05m", "3d 4h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def rate(per_second: float) -> str:
    """Return examples per second as "12,345 ex/s"."""
    digits = 0 if per_second >= 100 else 1
    return f"{per_second:,.{digits}f} ex/s"


def number(value: float) -> str:
    """Return a loss or a metric with the digits that matter."""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def seconds(value: float) -> str:
    """Return a short span as "0.4 s", a long one as `duration` does."""
    return f"{value:.1f} s" if value < 60 else duration(value)


def moment(time: Timestamp) -> str:
    """Return a timestamp as "2026-01-31T12:00:00Z"; "" for one that was never set."""
    if not time.seconds:
        return ""
    return aware(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def aware(time: Timestamp) -> datetime:
    """Return a timestamp as an aware datetime."""
    return datetime.fromtimestamp(time.seconds + time.nanos / 1e9, UTC)


def age(time: Timestamp, now: datetime) -> str:
    """Return how long ago that was, "" for a timestamp that was never set."""
    return duration((now - aware(time)).total_seconds()) if time.seconds else ""


def plural(count: int, word: str) -> str:
    """Return "1 restart", "2 restarts"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def harmless(text: str) -> str:
    """Return text that a program wrote with what could disturb a terminal made visible."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
