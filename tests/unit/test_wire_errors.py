"""Errors cross the wire with the code, the text and the details of the table, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from controller import errors
from controller.wire_errors import CODES, DOMAIN, ErrorInterceptor, from_rpc, to_status

NOT_FOUND = errors.JobNotFound("namespaces/a/trainingJobs/b")


def details(status: status_pb2.Status, kind: Any) -> list[Any]:
    """Return the details of one kind."""
    found = []
    for detail in status.details:
        assert isinstance(detail, AnyMessage)
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            found.append(message)
    return found


# --- The table

EXAMPLES: dict[type[errors.TaasError], errors.TaasError] = {
    errors.InvalidJob: errors.InvalidJob("trainingJob.spec.workers", "0 is too small; set 1"),
    errors.JobNotFound: NOT_FOUND,
    errors.JobExists: errors.JobExists("namespaces/a/trainingJobs/b"),
    errors.WrongState: errors.WrongState("namespaces/a/trainingJobs/b", "has ended"),
    errors.Unauthenticated: errors.Unauthenticated("the token has expired; make a new one"),
    errors.PermissionDenied: errors.PermissionDenied("ada may not delete it"),
    errors.LimitExceeded: errors.LimitExceeded("source", "3 GB are more than 512 MB"),
    errors.ClusterRefused: errors.ClusterRefused("quota: 4 of 4 CPUs in use"),
    errors.ClusterUnavailable: errors.ClusterUnavailable("the store is away", retry_after_s=2.5),
    errors.Conflict: errors.Conflict("the job changed"),
}


def every_error(kind: type[errors.TaasError]) -> set[type[errors.TaasError]]:
    return {c for sub in kind.__subclasses__() for c in {sub} | every_error(sub)}


def test_every_error_has_its_own_line_in_the_table() -> None:
    ours = {e for e in every_error(errors.TaasError) if e.__module__ == errors.__name__}
    assert set(CODES) == ours == set(EXAMPLES)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        pytest.param(errors.InvalidJob, grpc.StatusCode.INVALID_ARGUMENT, id="invalid"),
        pytest.param(errors.JobNotFound, grpc.StatusCode.NOT_FOUND, id="not found"),
        pytest.param(errors.JobExists, grpc.StatusCode.ALREADY_EXISTS, id="exists"),
        pytest.param(errors.WrongState, grpc.StatusCode.FAILED_PRECONDITION, id="finished"),
        pytest.param(errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, id="who"),
        pytest.param(errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED, id="may not"),
        pytest.param(errors.LimitExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED, id="limit"),
        pytest.param(errors.ClusterRefused, grpc.StatusCode.FAILED_PRECONDITION, id="refused"),
        pytest.param(errors.ClusterUnavailable, grpc.StatusCode.UNAVAILABLE, id="unavailable"),
        pytest.param(errors.Conflict, grpc.StatusCode.ABORTED, id="conflict"),
    ],
)
def test_an_error_becomes_a_status(kind: type[errors.TaasError], code: grpc.StatusCode) -> None:
    error = EXAMPLES[kind]
    status = to_status(error)
    assert status.code == code.value[0]
    assert status.message == str(error)
    (info,) = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (kind.__name__, DOMAIN)


def test_an_invalid_field_is_a_field_violation() -> None:
    (detail,) = details(to_status(EXAMPLES[errors.InvalidJob]), error_details_pb2.BadRequest)
    (violation,) = detail.field_violations
    assert violation.field == "trainingJob.spec.workers"
    assert violation.description == "0 is too small; set 1"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(errors.JobNotFound, id="not found"),
        pytest.param(errors.JobExists, id="exists"),
        pytest.param(errors.WrongState, id="finished"),
    ],
)
def test_a_job_is_resource_info(kind: type[errors.TaasError]) -> None:
    (detail,) = details(to_status(EXAMPLES[kind]), error_details_pb2.ResourceInfo)
    assert detail.resource_type == "taas.v1.TrainingJob"
    assert detail.resource_name == "namespaces/a/trainingJobs/b"


def test_a_limit_is_a_quota_failure() -> None:
    (detail,) = details(to_status(EXAMPLES[errors.LimitExceeded]), error_details_pb2.QuotaFailure)
    (violation,) = detail.violations
    assert violation.subject == "source"
    assert violation.description == "source: 3 GB are more than 512 MB"


def test_an_absent_cluster_says_when_to_try_again() -> None:
    status = to_status(EXAMPLES[errors.ClusterUnavailable])
    (detail,) = details(status, error_details_pb2.RetryInfo)
    assert detail.retry_delay.ToNanoseconds() == 2_500_000_000


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(errors.ClusterRefused, id="refused"),
        pytest.param(errors.Conflict, id="conflict"),
    ],
)
def test_the_others_have_a_text_only(kind: type[errors.TaasError]) -> None:
    assert len(to_status(EXAMPLES[kind]).details) == 1


class _Nearer(errors.JobNotFound):
    """A kind of an error that the table has."""


class _Unlisted(errors.TaasError):
    """One that it has not."""


def test_a_kind_of_a_listed_error_is_told_like_it() -> None:
    assert to_status(_Nearer("x")).code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("/var/secret"), id="not ours"),
        pytest.param(_Unlisted("/var/secret"), id="not in the table"),
    ],
)
def test_the_inside_stays_inside(error: Exception) -> None:
    status = to_status(error)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "secret" not in str(status)
    assert not status.details


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("x" * 1000, "x" * 1000, id="short"),
        pytest.param("x" * 1024, "x" * 1024, id="as long as may be"),
        pytest.param("x" * 1025, "x" * 1021 + "…", id="one too long"),
        pytest.param("€" * 1000, "€" * 340 + "…", id="cut between characters"),
        pytest.param("a\udc80b", "a?b", id="what is no text is replaced"),
    ],
)
def test_long_texts_are_cut(text: str, kept: str) -> None:
    assert to_status(errors.ClusterRefused(text)).message == kept


def test_long_names_are_cut() -> None:
    (detail,) = details(to_status(errors.JobNotFound("n" * 999)), error_details_pb2.ResourceInfo)
    assert detail.resource_name == "n" * 253 + "…"


# --- Over a real server


async def fail_in(error: BaseException | None, context: Any) -> None:
    """What the handlers below do after their first answer."""
    if error is not None:
        raise error
    await context.abort(grpc.StatusCode.DATA_LOSS, "my own words")


async def hear(request: Any) -> None:
    """Let a client say all that it has to say: to grpc.aio, an end of the call while its client
    still writes is an internal error of its own."""
    if isinstance(request, AsyncIterator):
        async for _ in request:
            continue


class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # no generic at run time
    """One method of each kind; each raises the error, or aborts by itself for None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.cancelled = asyncio.Event()
        self.running = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method, None for an unknown one."""
        return {
            "/t/unary_unary": grpc.unary_unary_rpc_method_handler(self.answer),
            "/t/stream_unary": grpc.stream_unary_rpc_method_handler(self.answer),
            "/t/unary_stream": grpc.unary_stream_rpc_method_handler(self.answers),
            "/t/stream_stream": grpc.stream_stream_rpc_method_handler(self.answers),
            "/t/written": grpc.unary_stream_rpc_method_handler(self.write),
            "/t/echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "/t/join": grpc.stream_unary_rpc_method_handler(self.join),
            "/t/plain": grpc.unary_unary_rpc_method_handler(self.plain),
            "/t/hang": grpc.unary_stream_rpc_method_handler(self.hang),
        }.get(str(handler_call_details.method))

    async def answer(self, request: Any, context: Any) -> bytes:
        await hear(request)
        await fail_in(self.error, context)
        raise AssertionError("not reached")

    async def answers(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        await hear(request)
        yield b"first"
        await fail_in(self.error, context)

    async def write(self, request: Any, context: Any) -> None:
        await context.write(b"first")
        await fail_in(self.error, context)

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    def plain(self, request: bytes, context: Any) -> bytes:
        return request

    async def hang(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            self.running.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@asynccontextmanager
async def served(folder: Path, handlers: Handlers) -> AsyncIterator[Any]:
    """Serve the handlers behind the interceptor on a unix socket."""
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
            yield channel
    finally:
        await server.stop(None)


async def call(channel: Any, method: str) -> tuple[list[bytes], Any]:
    """Call a method that fails; return the answers before that, and the error."""
    kind = method if method != "written" else "unary_stream"
    request: Any = iter([b"x"]) if kind.startswith("stream") else b"x"
    pending: Any = getattr(channel, kind)(f"/t/{method}")(request, timeout=60)
    answers: list[bytes] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (collect(pending, answers) if kind.endswith("stream") else pending)
    return answers, caught.value


async def collect(pending: AsyncIterator[bytes], answers: list[bytes]) -> None:
    async for answer in pending:
        answers.append(answer)  # noqa: PERF401  # those before an error are kept


METHODS = [
    pytest.param("unary_unary", [], id="unary-unary"),
    pytest.param("stream_unary", [], id="stream-unary"),
    pytest.param("unary_stream", [b"first"], id="unary-stream"),
    pytest.param("stream_stream", [b"first"], id="stream-stream"),
    pytest.param("written", [b"first"], id="unary-stream that writes"),
]


@pytest.mark.parametrize(("method", "before"), METHODS)
async def test_details_arrive(tmp_path: Path, method: str, before: list[bytes]) -> None:
    error = errors.InvalidJob("trainingJob.spec.workers", "0 is too small; set 1 or more")
    async with served(tmp_path, Handlers(error)) as channel:
        answers, caught = await call(channel, method)
    assert answers == before
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.details() == "trainingJob.spec.workers: 0 is too small; set 1 or more"
    assert rpc_status.from_call(caught) == to_status(error)


@pytest.mark.parametrize(("method", "before"), METHODS)
async def test_a_defect_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, before: list[bytes]
) -> None:
    with caplog.at_level(logging.ERROR, logger="controller.wire_errors"):
        async with served(tmp_path, Handlers(RuntimeError("/var/secret"))) as channel:
            answers, caught = await call(channel, method)
    assert answers == before
    assert caught.code() is grpc.StatusCode.INTERNAL
    assert caught.details() == "the service has failed on this call; its log says why"
    ours = [r for r in caplog.records if r.name == "controller.wire_errors"]
    assert [r.getMessage() for r in ours] == [f"/t/{method} failed"]
    assert "RuntimeError: /var/secret" in caplog.text
    assert "in fail_in" in caplog.text


@pytest.mark.parametrize(("method", "before"), METHODS)
async def test_what_a_handler_aborts_by_itself_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, before: list[bytes]
) -> None:
    async with served(tmp_path, Handlers(None)) as channel:
        answers, caught = await call(channel, method)
    assert answers == before
    assert caught.code() is grpc.StatusCode.DATA_LOSS
    assert caught.details() == "my own words"
    assert not [r for r in caplog.records if r.name == "controller.wire_errors"]


@pytest.mark.parametrize(
    "error",
    [
        *(pytest.param(e, id=k.__name__) for k, e in EXAMPLES.items()),
        pytest.param(errors.JobNotFound("file 'x'", "look elsewhere"), id="with a remedy"),
    ],
)
async def test_an_error_comes_back_as_it_was(tmp_path: Path, error: errors.TaasError) -> None:
    async with served(tmp_path, Handlers(error)) as channel:
        _, caught = await call(channel, "unary_unary")
    back = from_rpc(caught)
    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(error), vars(error))


async def test_a_nearer_error_comes_back_as_the_one_in_the_table(tmp_path: Path) -> None:
    async with served(tmp_path, Handlers(_Nearer("x"))) as channel:
        _, caught = await call(channel, "unary_unary")
    assert type(from_rpc(caught)) is errors.JobNotFound


@pytest.mark.parametrize("error", [None, RuntimeError("a defect")], ids=["aborted", "a defect"])
async def test_nothing_comes_back_of_what_is_not_ours(
    tmp_path: Path, error: Exception | None
) -> None:
    async with served(tmp_path, Handlers(error)) as channel:
        _, caught = await call(channel, "unary_unary")
    assert from_rpc(caught) is None


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in EXAMPLES])
async def test_missing_details_do_no_harm(tmp_path: Path, kind: type[errors.TaasError]) -> None:
    status = status_pb2.Status(code=CODES[kind].value[0], message="bare")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=kind.__name__, domain=DOMAIN))
    metadata = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    bare = grpc.aio.AioRpcError(CODES[kind], grpc.aio.Metadata(), metadata, details="bare")
    assert type(from_rpc(bare)) is kind


@pytest.mark.parametrize("error", [pytest.param(e, id=k.__name__) for k, e in EXAMPLES.items()])
async def test_no_expected_error_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: errors.TaasError
) -> None:
    async with served(tmp_path, Handlers(error)) as channel:
        _, caught = await call(channel, "unary_unary")
    assert rpc_status.from_call(caught) == to_status(error)
    # grpc.aio's poller, shared by all event loops of a process, may complain of one that is closed.
    assert not [record for record in caplog.records if record.name != "asyncio"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("😀" * 50_000, id="four bytes a character"),
        pytest.param("\x01\n" * 50_000, id="control characters"),
        pytest.param("%" * 50_000, id="per cent"),
    ],
)
async def test_the_longest_error_fits_into_the_trailer(tmp_path: Path, text: str) -> None:
    error = errors.InvalidJob(text, text)
    async with served(tmp_path, Handlers(error)) as channel:
        _, caught = await call(channel, "unary_unary")
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc_status.from_call(caught) == to_status(error)


async def test_an_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async with served(tmp_path, Handlers(None)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/nothing")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_succeeds_is_not_touched(tmp_path: Path) -> None:
    parts = [b"a", b"b", b"c"]
    async with served(tmp_path, Handlers(None)) as channel:
        assert await channel.unary_unary("/t/plain")(b"x", timeout=60) == b"x"
        assert await channel.stream_unary("/t/join")(iter(parts), timeout=60) == b"abc"
        echo = channel.stream_stream("/t/echo")(iter(parts), timeout=60)
        assert [answer async for answer in echo] == parts


async def test_a_cancelled_call_is_cancelled_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers(None)
    async with served(tmp_path, handlers) as channel:
        pending: Any = channel.unary_stream("/t/hang")(b"", timeout=60)
        assert await pending.read() == b"first"
        await asyncio.wait_for(handlers.running.wait(), 60)
        pending.cancel()
        await asyncio.wait_for(handlers.cancelled.wait(), 60)
    assert not [r for r in caplog.records if r.name == "controller.wire_errors"]
