"""How much a caller or a namespace may ask for. Frozen settings; controller.config sets them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one caller may have under way: calls at once, calls that wait, and streams; of these,
    transfers of whole files, which hold megabytes each, take turns like calls. receiving: requests
    that are received at a time, of all callers together; each may hold 8 MiB."""

    receiving: int = 40
    calls: int = 16
    transfers: int = 16
    waiting: int = 240
    streams: int = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service gives.

    max_workers: of one job. max_source_bytes: of one source. max_jobs, max_namespace_workers: of
    the unfinished jobs of one namespace, together. max_upload_bytes: of one caller in an hour.
    """

    max_workers: int = 1024
    max_source_bytes: int = 512 * 1024 * 1024
    max_jobs: int = 1000
    max_namespace_workers: int = 10_000
    max_upload_bytes: int = 20 * 1024**3
    calls: CallLimits = field(default_factory=CallLimits)
