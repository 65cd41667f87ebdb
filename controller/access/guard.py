"""The interceptor that every call goes through: who makes it, may he, and does he make too many."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from controller import rpc_handlers
from controller.access import rules
from controller.access.callers import Action, Caller, PodIdentity, calling, worker_pod
from controller.access.places import PRESSED_S
from controller.access.ports import Access
from controller.access.turns import Turns
from controller.errors import InvalidJob, LimitExceeded, PermissionDenied, TaasError

_log = logging.getLogger(__name__)

TOKEN_HEADER = "authorization"
_SCHEME = "bearer "
# How long a stream goes on before it is asked again whose its token is and what he may. Answers are
# kept for up to a minute, so what was taken away is noticed within five.
RECHECK_S = 240.0
# Streams of one pod: an agent has one, and for a moment the one before it.
_STREAMS_OF_A_POD = 4
# A message that has come in part is held, at most 4 MiB each. So a caller's requests are received
# in his turns, few of all callers at a time, and none is waited for longer.
RECEIVE_S = 30.0
# Who need not be known says very little.
_ANYBODYS_S = 2.0


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # no generic at run time
    """Lets a call through when the rules allow it. Goes inside the ErrorInterceptor.

    Who calls is found out before the request is read; what he may do when it is there. A method
    without a rule is refused to all.
    """

    def __init__(
        self,
        access: Access,
        turns: Turns,
        *,
        recheck_s: float = RECHECK_S,
        receive_s: float = RECEIVE_S,
    ) -> None:
        self._access = access
        self._turns = turns
        self._recheck_s = recheck_s
        self._receive_s = receive_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call, guarded, or one that tells why not."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        rule = rules.RULES.get(method)
        token = _token(handler_call_details.invocation_metadata)
        try:
            if rule is None:
                _log.error("%s has no rule in controller.access.rules; nobody may call it", method)
                raise PermissionDenied(f"nobody may call {method}")
            if rule.who is rules.Who.ANYBODY:
                return self._for_anybody(handler)
            if rule.who is rules.Who.WORKER:
                return self._for_worker(handler, await self._access.pod(token))
            return self._for_caller(handler, rule, token, await self._access.caller(token))
        except TaasError as error:
            return rpc_handlers.refusing(error)

    def _for_worker(self, handler: Any, pod: PodIdentity) -> Any:
        async def behavior(requests: Any, context: Any) -> AsyncIterator[Any]:
            async with self._turns.stream(f"pod {pod.uid}", most=_STREAMS_OF_A_POD):
                worker_pod.set(pod)
                async with aclosing(handler.stream_stream(requests, context)) as answers:
                    async for answer in answers:
                        yield answer

        return rpc_handlers.like(handler, behavior)

    def _for_anybody(self, handler: Any) -> Any:
        behavior = rpc_handlers.behavior_of(handler)

        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            # The machine stands for who is not known: one that stalls holds up no probe of another.
            where = machine(context.peer())
            async with self._turns.call(where):
                return await behavior(await _one(self._each(where, requests, _ANYBODYS_S)), context)

        return rpc_handlers.receiving(handler, call)

    def _for_caller(self, handler: Any, rule: rules.Rule, token: str, caller: Caller) -> Any:
        behavior = rpc_handlers.behavior_of(handler)
        room = self._turns.transfer if rule.transfer else self._turns.stream

        def coming(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            return self._each(caller.name, requests, self._receive_s)

        async def received(requests: AsyncIterator[Any]) -> Any:
            # What has come of a request takes memory, so that is for the caller's own turns.
            async with self._turns.call(caller.name):
                return await _one(coming(requests))

        async def call(requests: AsyncIterator[Any], context: Any) -> Any:
            async with self._turns.call(caller.name):
                request = await _one(coming(requests))
                await self._check(caller, rule, request)
                return await behavior(request, context)

        async def receive(requests: AsyncIterator[Any], context: Any) -> Any:
            async with room(caller.name):
                each = coming(requests)
                first = await _first(each)
                if not first:
                    return await behavior(each, context)
                await self._check(caller, rule, first[0])
                given = self._while_allowed(token, rule, first[0], _after(first, each))
                return await behavior(given, context)

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async with room(caller.name):
                # Without a request of its own to look at, to be known is enough.
                several = handler.request_streaming
                asked = None if several else await received(requests)
                await self._check(caller, rule, asked)
                given = coming(requests) if several else asked
                async with (
                    aclosing(behavior(given, context)) as answers,
                    aclosing(self._while_allowed(token, rule, asked, answers)) as allowed,
                ):
                    async for answer in allowed:
                        yield answer

        async def write(requests: AsyncIterator[Any], context: Any) -> Any:
            async with self._turns.stream(caller.name):
                request = await received(requests)
                await self._check(caller, rule, request)
                return await behavior(request, context)

        # A handler that streams yields its answers, or writes them to the context.
        if inspect.isasyncgenfunction(behavior):
            return rpc_handlers.receiving(handler, stream)
        if handler.request_streaming:
            return rpc_handlers.receiving(handler, receive)
        return rpc_handlers.receiving(handler, write if handler.response_streaming else call)

    async def _each(
        self, caller: str, requests: AsyncIterator[Any], within_s: float
    ) -> AsyncIterator[Any]:
        """Yield requests. Raises LimitExceeded when one is longer in coming."""
        coming = aiter(requests)
        while True:
            try:
                async with self._turns.places.one(caller, within_s):
                    request = await anext(coming, None)
            except TimeoutError as error:
                raise LimitExceeded(
                    "request",
                    f"did not come whole within {within_s:g} s, or within {PRESSED_S:g} s while "
                    "others waited; send it without a pause",
                ) from error
            if request is None:
                return
            yield request

    async def _while_allowed(
        self, token: str, rule: rules.Rule, asked: Any, messages: AsyncIterator[Any]
    ) -> AsyncGenerator[Any]:
        """Yield what goes over an open stream. Raises as at its beginning when the token is no
        longer good, or its owner may no longer do what was asked for."""
        loop = asyncio.get_running_loop()
        again = loop.time() + self._recheck_s
        async for message in messages:
            if loop.time() > again:
                # He may have left a group since, so what is known of him is not enough.
                await self._check(await self._access.caller(token), rule, asked)
                again = loop.time() + self._recheck_s
            yield message

    async def _check(self, caller: Caller, rule: rules.Rule, request: Any) -> None:
        """Raise PermissionDenied unless the caller may do what the request asks for."""
        calling.set(caller)
        if rule.action is None:
            return
        action = rule.action(request)
        verdict = await self._access.verdict(caller, action)
        if not verdict.allowed:
            raise PermissionDenied(denial(caller, action, verdict.reason))


def denial(caller: Caller, action: Action, reason: str) -> str:
    """Return what a caller is told who may not do a thing."""
    why = f" ({reason})" if reason else ""
    return (
        f"{caller.name} may not {action}{why}; ask who administers it for a role that allows "
        "this, such as edit"
    )


def machine(peer: str) -> str:
    """Return where a call comes from without the port, of what gRPC calls the peer."""
    kind, _, place = peer.partition(":")
    host, colon, port = place.rpartition(":")
    return f"{kind}:{host}" if colon and port.isdecimal() else peer


def _token(metadata: Any) -> str:
    """Return the bearer token of a call, "" if it has none."""
    for key, value in metadata or ():
        if key == TOKEN_HEADER and isinstance(value, str):
            is_bearer = value[: len(_SCHEME)].lower() == _SCHEME
            return value[len(_SCHEME) :].strip() if is_bearer else ""
    return ""


async def _one(requests: AsyncIterator[Any]) -> Any:
    """Return the request of a call that has one. Raises InvalidJob if it has none."""
    if first := await _first(requests):
        return first[0]
    raise InvalidJob("request", "is missing; send the message of this method")


async def _first(requests: AsyncIterator[Any]) -> list[Any]:
    """Return the first message of a stream, nothing if it has none."""
    async for request in requests:
        return [request]
    return []


async def _after(first: list[Any], requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for request in first:
        yield request
    async for request in requests:
        yield request
