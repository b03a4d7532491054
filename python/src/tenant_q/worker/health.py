"""What probes ask: a file that is touched, and two addresses over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

__all__ = ["serve", "touch"]


def touch(path: str) -> None:
    """Makes it new."""
    with open(path, "a"):
        os.utime(path)


async def serve(host: str, port: int, facts: Callable[[], dict[str, Any]]) -> asyncio.Server:
    """GET /live: the supervisor goes on. GET /ready: it can take tasks, else 503. Both tell the facts, as JSON."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).split(b"\r\n", 1)[0].split()
            path = request[1].split(b"?")[0] if len(request) > 1 else b""
            found = facts()
            status = "200 OK"
            if not request or request[0] not in (b"GET", b"HEAD"):
                status, found = "405 Method Not Allowed", {}
            elif path == b"/ready":
                status = "200 OK" if found["ready"] else "503 Service Unavailable"
            elif path not in (b"/", b"/live"):
                status, found = "404 Not Found", {}
            body = json.dumps(found).encode() + b"\n"
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            head += "Connection: close\r\n\r\n"
            writer.write(head.encode() + (b"" if request[:1] == [b"HEAD"] else body))
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port)
