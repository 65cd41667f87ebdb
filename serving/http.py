"""The door over HTTP: requests to serving.rest, and whether the service is well."""

from __future__ import annotations

from aiohttp import web

from serving import rest, values
from serving.answers import Answers


class HttpDoor:
    """An HTTP server for the REST interface."""

    def __init__(self, answers: Answers, *, max_bytes: int, grace_s: float) -> None:
        """Listen nowhere yet. max_bytes: of the body of a request. grace_s: how long requests
        may take that are here when it stops."""
        self._answers = answers
        self.draining = False
        application = web.Application(client_max_size=max_bytes)
        application.router.add_get("/healthz", self._alive)
        application.router.add_get("/readyz", self._ready)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=grace_s)

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the address: any free port for 0. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        return f"{host}:{bound[1]}"

    async def stop(self) -> None:
        """Take no more requests; return when those that are here have been answered."""
        await self._runner.cleanup()

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        if self.draining:
            return web.Response(status=503, text="ending\n")
        if not self._answers.ready:
            return web.Response(status=503, text="no model is loaded yet\n")
        return web.Response(text="ok\n")

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as large:
            status, told = 413, rest.error(f"{large.text}; send less at once")
        else:
            status, told = await rest.respond(
                self._answers, request.method, request.rel_url.raw_path, body
            )
        response = web.Response(
            status=status, body=values.dumps(told), content_type="application/json"
        )
        if self.draining:
            # The client's next request opens a connection, which leads elsewhere.
            response.force_close()
        return response
