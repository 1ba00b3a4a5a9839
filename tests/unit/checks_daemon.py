"""A daemon that takes the results of checks, in this process."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from aiohttp import web

from netd.model.service import CheckResult

DEADLINE_S = 10.0


class Daemon:
    """Takes results at a socket. `answers` are the next statuses; 204 after that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[tuple[str, CheckResult]] = []
        self.answers: list[int] = []
        self.open = asyncio.Event()  # requests wait for it
        self.open.set()
        self.arrived = asyncio.Event()
        self._news = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._take))
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        assert request.method == "PUT"
        body = await request.read()
        self.arrived.set()
        await self.open.wait()
        status = self.answers.pop(0) if self.answers else 204
        self._news.set()
        if status >= 300:
            problem = {"detail": f"because of {status}", "code": "x"}
            return web.json_response(problem, status=status)
        self.taken.append((request.raw_path, msgspec.json.decode(body, type=CheckResult)))
        return web.Response(status=status)
