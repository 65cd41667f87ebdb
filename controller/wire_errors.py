"""How errors cross the wire: the one table of status codes, the google.rpc details, the
interceptor that turns whatever a handler raises into them, and the way back.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from controller import rpc_handlers
from controller.errors import (
    ClusterRefused,
    ClusterUnavailable,
    Conflict,
    InvalidJob,
    JobExists,
    JobNotFound,
    LimitExceeded,
    PermissionDenied,
    TaasError,
    Unauthenticated,
    WrongState,
)
from controller.unknown_fields import checked

_log = logging.getLogger(__name__)

CODES: dict[type[TaasError], grpc.StatusCode] = {
    InvalidJob: grpc.StatusCode.INVALID_ARGUMENT,
    JobNotFound: grpc.StatusCode.NOT_FOUND,
    JobExists: grpc.StatusCode.ALREADY_EXISTS,
    WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ClusterRefused: grpc.StatusCode.FAILED_PRECONDITION,
    ClusterUnavailable: grpc.StatusCode.UNAVAILABLE,
    # Should it ever get here, the caller may repeat the whole of what it did.
    Conflict: grpc.StatusCode.ABORTED,
}

# The errors' domain as google.rpc.ErrorInfo has it: the name of the protobuf package.
DOMAIN = "taas.v1"
_JOB_TYPE = "taas.v1.TrainingJob"

# gRPC allows 8 KiB of trailing metadata by default, and one error takes this three times: as
# the message, where each byte may take three, and in the details as message and description.
_MOST_TEXT_BYTES = 1024
_MOST_NAME_BYTES = 256

# The text of every error that is our own fault; what went wrong is for the log only.
_INTERNAL = "the service has failed on this call; its log says why"


def to_status(error: Exception) -> status_pb2.Status:
    """Return what a caller is told about an error: code, text and google.rpc details."""
    known = _kind(error)
    if known is None or not isinstance(error, TaasError):
        return status_pb2.Status(code=_number(grpc.StatusCode.INTERNAL), message=_INTERNAL)
    code = CODES[known]
    status = status_pb2.Status(code=_number(code), message=_cut(str(error), _MOST_TEXT_BYTES))
    kind = error_details_pb2.ErrorInfo(reason=known.__name__, domain=DOMAIN)
    for detail in (kind, *_details(error)):
        status.details.add().Pack(detail)
    return status


def _details(error: TaasError) -> list[Message]:
    """Return what the class of an error has to say besides its text."""
    if isinstance(error, InvalidJob):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field, _MOST_NAME_BYTES), description=_cut(error.why, _MOST_TEXT_BYTES)
        )
        return [error_details_pb2.BadRequest(field_violations=[violation])]
    if isinstance(error, JobNotFound | JobExists | WrongState):
        name = _cut(error.what, _MOST_NAME_BYTES)
        return [error_details_pb2.ResourceInfo(resource_type=_JOB_TYPE, resource_name=name)]
    if isinstance(error, LimitExceeded):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=_cut(error.limit, _MOST_NAME_BYTES),
            description=_cut(str(error), _MOST_TEXT_BYTES),
        )
        return [error_details_pb2.QuotaFailure(violations=[violation])]
    if isinstance(error, ClusterUnavailable):
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        return [error_details_pb2.RetryInfo(retry_delay=delay)]
    return []


def from_rpc(error: grpc.aio.AioRpcError) -> TaasError | None:
    """Return the error that a handler raised at the other end, or None if the call failed for
    another reason: no connection, no time, no such method, a handler that broke."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is enough of a call
    except (ValueError, DecodeError):
        return None  # somebody between rewrote the answer
    if status is None:
        return None
    info = _detail(status, error_details_pb2.ErrorInfo)
    return _from_status(info.reason, status) if info.domain == DOMAIN else None


def _from_status(reason: str, status: status_pb2.Status) -> TaasError | None:
    """Return the error of a class by its name; what a detail lacks is empty."""
    text = status.message
    kind = next((kind for kind in CODES if kind.__name__ == reason), None)
    if kind is InvalidJob:
        for violation in _detail(status, error_details_pb2.BadRequest).field_violations:
            return InvalidJob(violation.field, violation.description)
        return InvalidJob("", text)
    name = _detail(status, error_details_pb2.ResourceInfo).resource_name
    if kind is JobNotFound:
        return JobNotFound(name, text.removeprefix(f"{name} does not exist; "))
    if kind is JobExists:
        return JobExists(name)
    if kind is WrongState:
        return WrongState(name, text.removeprefix(f"{name} "))
    if kind is LimitExceeded:
        for violation in _detail(status, error_details_pb2.QuotaFailure).violations:
            return LimitExceeded(violation.subject, text.removeprefix(f"{violation.subject}: "))
        return LimitExceeded("", text)
    if kind is ClusterUnavailable:
        delay = _detail(status, error_details_pb2.RetryInfo).retry_delay
        return ClusterUnavailable(text, retry_after_s=delay.ToNanoseconds() / 1e9)
    return kind(text) if kind is not None else None


def _detail(status: status_pb2.Status, kind: type[Message]) -> Any:
    """Return the detail of a kind, an empty one when there is none."""
    message = kind()
    for detail in status.details:
        if detail.Unpack(message):
            break
    return message


def _kind(error: Exception) -> type[TaasError] | None:
    """Return the nearest class of an error that is in the table, None when there is none."""
    return next((kind for kind in type(error).__mro__ if kind in CODES), None)


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _cut(text: str, most: int) -> str:
    """Return a text in at most so many bytes of UTF-8; an ellipsis shows that it was cut."""
    data = text.encode(errors="replace")
    if len(data) <= most:
        return data.decode()
    return data[: most - 3].decode(errors="ignore") + "…"


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # no generic at run time
    """Ends a call whose handler raised with the status that the table has for the error.

    Cancellation and what a handler aborted by itself pass through; anything that is no
    TaasError is logged with its traceback and told as INTERNAL without a word of it.

    strict: full names of the services that refuse requests with fields they do not know.
    """

    def __init__(self, *, strict: Collection[str] = ()) -> None:
        self._strict = frozenset(strict)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call, guarded; None when there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        strict = method.split("/")[1] in self._strict
        decode = handler.request_deserializer
        return rpc_handlers.like(
            handler,
            _guarded(
                rpc_handlers.behavior_of(handler),
                method,
                check=checked if strict else _as_it_is,
                sound=_all_sound if handler.request_streaming else _sound,
            ),
            decode=_decoder(decode) if decode is not None else None,
        )


def _as_it_is(request: Any) -> Any:
    return request


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands for bytes that are no message: gRPC would tell of them as a defect of ours."""

    why: str


def _decoder(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            return _Undecodable(str(error))

    return decoded


def _sound(request: Any) -> Any:
    """Return a message. Raises InvalidJob for what is none."""
    if isinstance(request, _Undecodable):
        raise InvalidJob("request", f"is no message of this method: {request.why}")
    return request


async def _all_sound(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _sound(request)


def _guarded(
    behavior: Callable[..., Any],
    method: str,
    *,
    check: Callable[[Any], Any],
    sound: Callable[[Any], Any],
) -> Callable[..., Any]:
    """Wrap a handler in one of its own kind: gRPC looks at what kind of function it is."""

    async def call(request: Any, context: Any) -> Any:
        try:
            return await behavior(check(sound(request)), context)
        except Exception as error:
            await _end(error, context, method)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async with aclosing(behavior(check(sound(request)), context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:
            await _end(error, context, method)

    if inspect.isasyncgenfunction(behavior):
        return stream
    if inspect.iscoroutinefunction(behavior):
        return call
    # A plain function, which gRPC runs in a thread with a context of another kind.
    return behavior


async def _end(error: Exception, context: Any, method: str) -> None:
    """End a call for an error. Always raises."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if _kind(error) is None:
        _log.error("%s failed", method, exc_info=error)
    await context.abort_with_status(rpc_status.to_status(to_status(error)))
