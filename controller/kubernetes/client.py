"""The connection to the API server: raw JSON in and out, and errors as the controller knows them.

Plain dicts on purpose: making the library's model objects of thousands of pods costs seconds.
What the library does well is used: kubeconfig, tokens that are renewed, TLS and proxies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from controller.errors import ClusterRefused, ClusterUnavailable, TaasError
from controller.kubernetes.replies import Expired, error_of

_log = logging.getLogger(__name__)

Document = dict[str, Any]

JSON = "application/json"
MERGE = "application/merge-patch+json"

_CALL_S = 30.0
_CONNECT_S = 10.0
# Calls under way at once. The API server has its own fair queues; this bounds only our memory.
_MOST_CALLS = 64
# A call that was throttled was not carried out, so it may be repeated whatever it is.
_THROTTLED_TRIES = 5
_LONGEST_THROTTLE_S = 5.0
# A peer that vanished without a word is noticed within half a minute, also by a silent watch.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_UNANSWERED_MS = 30_000
_CLOSE_S, _CLOSE_STEP_S = 5.0, 0.005


class Api:
    """Calls of one API server. Raises only errors of controller.errors and of replies."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rest = _Rest(configuration)
        self._calls = asyncio.Semaphore(_MOST_CALLS)

    async def aclose(self) -> None:
        """End all connections."""
        await self._rest.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Document:
        """Do one call and return the object that is its answer."""
        limits = aiohttp.ClientTimeout(total=_CALL_S, connect=_CONNECT_S)
        for tries_left in reversed(range(_THROTTLED_TRIES)):
            async with self._calls:
                status, headers, text = await self._exchange(
                    method, _url(path, query), body, content_type, limits
                )
            if status != 429 or not tries_left:
                break
            # Spread, so that those who were refused together do not come back together.
            asked_s = min(_LONGEST_THROTTLE_S, _retry_after(headers) or 1.0)
            wait_s = asked_s * random.uniform(1.0, 2.0)
            _log.info("%s %s: throttled, again in %.1f s", method, path, wait_s)
            await asyncio.sleep(wait_s)
        if status >= 300:
            raise error_of(status, text, _retry_after(headers), f"{method} {path}")
        return _object(text, f"{method} {path}")

    async def delete(
        self, path: str, *, uid: str = "", grace_s: int | None = None, policy: str = ""
    ) -> Document:
        """Delete an object, that of the uid if one is given, and return what the server says: the
        object if something still holds it. Raises Missing; Conflict for another uid."""
        options: Document = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if policy:
            options["propagationPolicy"] = policy
        return await self.call("DELETE", path, body=options)

    async def watch(
        self, path: str, query: Mapping[str, str], *, timeout_s: int
    ) -> AsyncGenerator[Document, None]:
        """Yield the events of a watch until the server ends it, after that many seconds at most.
        Close the iterator to end it before. Raises Expired."""
        asked = {**query, "watch": "1", "timeoutSeconds": str(timeout_s)}
        limits = aiohttp.ClientTimeout(connect=_CONNECT_S, sock_read=timeout_s + _CALL_S)
        what = f"watch of {path}"
        response = await self._send("GET", _url(path, asked), None, JSON, limits)
        try:
            if response.status != 200:
                text = await _read(response, what)
                raise error_of(response.status, text, _retry_after(response.headers), what)
            async for line in _lines(response, what):
                yield _event(_object(line, what), what)
        finally:
            # The server has more to say, so there is no polite end to wait for.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()

    async def _exchange(
        self, method: str, url: str, body: object, content_type: str, limits: aiohttp.ClientTimeout
    ) -> tuple[int, Mapping[str, str], bytes]:
        response = await self._send(method, url, body, content_type, limits)
        try:
            text = await _read(response, f"{method} {url}")
            return response.status, response.headers, text
        finally:
            response.release()

    async def _send(
        self, method: str, url: str, body: object, content_type: str, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "taas-controller"}
        try:
            settings: Any = await self._configuration.auth_settings()
            for setting in settings.values():
                headers[setting["key"]] = setting["value"]
            reply = await self._rest.request(  # type: ignore[no-untyped-call]
                method,
                self._configuration.host + url,
                headers=headers,
                body=body,
                _request_timeout=limits,
            )
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise _no_answer(f"{method} {url}", error) from error
        response: aiohttp.ClientResponse = reply.response
        return response


@asynccontextmanager
async def connected(kubeconfig: Path | None = None) -> AsyncIterator[Api]:
    """An Api by that kubeconfig, or by the service account of the pod this runs in. Raises
    ClusterRefused if there is neither."""
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            await load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
        else:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        where = kubeconfig or "the service account of this pod"
        raise ClusterRefused(
            f"no way to the API server by {where}: {error}; name a kubeconfig file"
        ) from error
    api = Api(configuration)
    try:
        yield api
    finally:
        await api.aclose()


class _Rest(RESTClientObject):
    """The library's HTTP client over connections whose death is noticed."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def aclose(self) -> None:
        """End all connections and wait until they are: the library does not, and who ends the
        event loop then leaves them open."""
        await self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                while any(each.fileno() != -1 for each in self._sockets):  # noqa: ASYNC110
                    await asyncio.sleep(_CLOSE_STEP_S)

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=0, ssl=self.ssl_context, socket_factory=self._socket)

    def _socket(self, address: Any) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
        self._sockets.add(made)
        return made


def _url(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


async def _read(response: aiohttp.ClientResponse, what: str) -> bytes:
    try:
        return await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise _no_answer(what, error) from error


async def _lines(response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
    """Yield the lines of an answer; they may be longer than any buffer."""
    parts: list[bytes] = []
    try:
        async for chunk in response.content.iter_any():
            *complete, rest = chunk.split(b"\n")
            for line in complete:
                yield b"".join([*parts, line])
                parts.clear()
            parts.append(rest)
    except (aiohttp.ClientError, OSError) as error:
        raise _no_answer(what, error) from error


def _object(text: bytes, what: str) -> Document:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"{what}: the answer is no JSON object: {text[:200]!r}")
    return found


def _event(event: Document, what: str) -> Document:
    """Return the event of a watch unless it is the server's word that the watch has failed."""
    found = event.get("object")
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"{what}: an event without an object: {str(event)[:200]}")
    if event.get("type") == "ERROR":
        code = found.get("code", 500)
        text = json.dumps(found).encode()
        raise Expired(what) if code == 410 else error_of(int(code), text, None, what)
    return event


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _no_answer(what: str, error: BaseException) -> TaasError:
    why = str(error) or type(error).__name__
    return ClusterUnavailable(f"{what}: the API server does not answer: {why[:300]}")
