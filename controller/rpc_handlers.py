"""Handlers of calls that stand for other handlers, as interceptors return them."""

from __future__ import annotations

from typing import Any

import grpc

from controller.errors import TaasError


def kind(handler: Any) -> str:
    """Return what kind of call a handler answers, as grpc names it: "unary_stream", ..."""
    requests = "stream" if handler.request_streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    return f"{requests}_{answers}"


def behavior_of(handler: Any) -> Any:
    """Return the function that a handler calls."""
    return getattr(handler, kind(handler))


def like(handler: Any, behavior: Any, *, decode: Any = None) -> Any:
    """Return a handler of the same kind with another behavior, and another decoder if given."""
    return getattr(grpc, f"{kind(handler)}_rpc_method_handler")(
        behavior,
        request_deserializer=decode or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def receiving(handler: Any, behavior: Any) -> Any:
    """Return a handler of the same kind whose behavior is given the request as a stream of one
    message: it decides when the request is read, and how long it is waited for."""
    answers = "stream" if handler.response_streaming else "unary"
    return getattr(grpc, f"stream_{answers}_rpc_method_handler")(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def refusing(error: TaasError) -> Any:
    """Return a handler that reads nothing and ends a call of any kind with the error."""

    async def refuse(requests: Any, context: Any) -> None:
        raise error

    # On the wire a call of any kind is a stream both ways.
    return grpc.stream_stream_rpc_method_handler(refuse)
