"""The client's errors, and the one table from gRPC codes to them (the server's, inverted).

    TaasError
    ├─ InvalidRequest(violations)     INVALID_ARGUMENT, OUT_OF_RANGE   change the request
    ├─ NotFound(what)                 NOT_FOUND
    ├─ AlreadyExists(what)            ALREADY_EXISTS
    ├─ FailedPrecondition             FAILED_PRECONDITION, ABORTED     not in this state
    ├─ LimitExceeded(limits)          RESOURCE_EXHAUSTED
    ├─ Unauthenticated                UNAUTHENTICATED
    ├─ PermissionDenied               PERMISSION_DENIED
    ├─ ServiceUnavailable             UNAVAILABLE                      try again later
    ├─ TimedOut                       DEADLINE_EXCEEDED
    └─ InternalError                  anything else: the service is broken

Every one that came over the wire has the gRPC error as its `__cause__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be: its path and why, remedy included."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field}: {self.why}" if self.field else self.why


class TaasError(Exception):
    """Root of the tree. The text is for people: what happened and what to do."""


class InvalidRequest(TaasError):
    """The request names something that cannot be; `violations` says what, field by field."""

    def __init__(self, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__("; ".join(map(str, violations)) or message)
        self.violations = violations

    @staticmethod
    def of(field: str, why: str) -> InvalidRequest:
        """Return the error for one field."""
        return InvalidRequest("", (FieldViolation(field, why),))


class NotFound(TaasError):
    """There is no such thing; `what` is its resource name if the service told it."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class AlreadyExists(TaasError):
    """Something else has this name; `what` is the resource name if the service told it."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class FailedPrecondition(TaasError):
    """The job is not in a state in which this can be done."""


class LimitExceeded(TaasError):
    """A limit was reached; `limits` names it and says how much it is."""

    def __init__(self, message: str, limits: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__("; ".join(map(str, limits)) or message)
        self.limits = limits


class Unauthenticated(TaasError):
    """The service does not know who is calling."""


class PermissionDenied(TaasError):
    """The caller may not do this."""


class ServiceUnavailable(TaasError):
    """The service does not answer, or answers that it cannot do this now (`answered`).

    `retry_after_s` is what it asked for, None if nothing.
    """

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, answered: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.answered = answered


class TimedOut(TaasError):
    """Nothing wrong was heard, but the time given was not enough."""


class InternalError(TaasError):
    """The service failed in a way that it should not; its log says more."""


KINDS: Mapping[grpc.StatusCode, type[TaasError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


def from_rpc(error: grpc.RpcError, *, target: str) -> TaasError:
    """Return our error for one of gRPC's; raise it with `from error`."""
    code = error.code()
    text = error.details() or ""
    details = _details(error)
    kind = KINDS.get(code, InternalError)
    if kind is InvalidRequest:
        return InvalidRequest(text, _field_violations(details))
    if kind is LimitExceeded:
        return LimitExceeded(text, _quota_violations(details))
    if kind is NotFound:
        return NotFound(text, _resource(details))
    if kind is AlreadyExists:
        return AlreadyExists(text, _resource(details))
    if kind is ServiceUnavailable:
        # Only a service that is there sends details; gRPC itself has none.
        answered = bool(details)
        said = "cannot do this now" if answered else "does not answer"
        message = f"the service at {target} {said}: {text}{_remedy(text)}"
        return ServiceUnavailable(message, _retry_delay_s(details), answered=answered)
    if kind is TimedOut:
        return TimedOut(f"the service at {target} did not answer in time")
    if kind is InternalError:
        name = code.name
        return InternalError(
            f"the service at {target} failed ({name}): {text or 'no reason given'}"
        )
    return kind(text or code.name)


def _remedy(text: str) -> str:
    """Return what to do about why gRPC could not connect, "" if nothing is known."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            "; its certificate is not trusted: set TAAS_CA_FILE, or --ca-file, to the "
            "certificate of who signed it"
        )
    if "ostname" in text and "erif" in text:
        return "; its certificate is for another name: set TAAS_SERVER_NAME to that name"
    return ""


def _details(error: Any) -> tuple[Any, ...]:
    """Unpack the google.rpc details that the error carries; those unknown here are left out."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        # A proxy rewrote code or text: the details do not belong to them any more.
        return ()
    unpacked = []
    for detail in status.details if status is not None else ():
        for kind in _DETAIL_KINDS:
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                unpacked.append(message)
    return tuple(unpacked)


_DETAIL_KINDS = (
    error_details_pb2.BadRequest,
    error_details_pb2.ErrorInfo,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)


def _field_violations(details: tuple[Any, ...]) -> tuple[FieldViolation, ...]:
    return tuple(
        FieldViolation(v.field, v.description)
        for d in details
        if isinstance(d, error_details_pb2.BadRequest)
        for v in d.field_violations
    )


def _quota_violations(details: tuple[Any, ...]) -> tuple[FieldViolation, ...]:
    return tuple(
        FieldViolation(v.subject, v.description)
        for d in details
        if isinstance(d, error_details_pb2.QuotaFailure)
        for v in d.violations
    )


def _resource(details: tuple[Any, ...]) -> str:
    for d in details:
        if isinstance(d, error_details_pb2.ResourceInfo):
            return str(d.resource_name)
    return ""


def _retry_delay_s(details: tuple[Any, ...]) -> float | None:
    for d in details:
        if isinstance(d, error_details_pb2.RetryInfo):
            return float(d.retry_delay.seconds + d.retry_delay.nanos / 1e9)
    return None
