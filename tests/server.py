"""A loopback server that speaks the OpenAI protocol and misbehaves on a seeded schedule.

``Server(answer)`` runs in a thread; ``answer`` gets the request's body and gives a text, a choice, (status, body), or
the bytes of a whole body. Asked as a proxy, it answers by itself, and refuses to CONNECT. ``fixed`` is a server that
sends the same bytes to whoever connects.
``python tests/server.py`` runs one by itself and prints its address, for measurements.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

FAULTS = (
    "429", "500", "503", "drop", "half", "cut", "html", "junk", "empty", "slow", "error-200",
)  # fmt: skip
"""429, 500 and 503 by status; drop: no byte; half: fewer bytes than promised; cut: JSON that ends early; html: a page
of a proxy; junk: JSON of another shape; empty: no choices; slow: no answer in time; error-200: an error sent as 200."""
CANNED = {
    "junk": b'{"choices": [{"text": 7}]}',
    "empty": b'{"choices": [], "usage": null}',
    "error-200": b'{"error": {"message": "upstream overloaded", "code": 502}}',
}


class Server:
    """``faults``: name -> share of attempts that meet it; after ``worst`` attempts a request meets no more."""

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Any] = lambda body: "[[A]]",
        faults: Mapping[str, float] | None = None,
        *,
        seed: int = 0,
        worst: int = 2,
        retry_after: str | None = "0.01",
        delay: float = 0.0,
        know_n: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer, self.faults, self.seed, self.worst = answer, dict(faults or {}), seed, worst
        self.retry_after, self.delay, self.know_n = retry_after, delay, know_n
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.met: Counter[str] = Counter()
        self.tls = tls
        self.flying = self.most = 0
        self.keep = True
        self._tries: Counter[bytes] = Counter()

    def __enter__(self) -> Server:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._port}/v1"

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024, ssl=self.tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                self.flying += 1
                self.most = max(self.most, self.flying)
                try:
                    whole = await self._respond(writer, head[0].split(" ")[1], headers, raw)
                finally:
                    self.flying -= 1
                if not whole:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _respond(self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], raw: bytes) -> bool:
        if not raw:  # CONNECT
            return await self._send(writer, 407, b"")
        body = json.loads(raw)
        if self.keep:
            self.requests.append(body)
            self.headers.append(headers)
        if self.delay:
            await asyncio.sleep(self.delay)
        fault = self._fault(raw)
        if fault:
            self.met[fault] += 1
        if fault == "drop":
            return False
        if fault == "slow":
            await asyncio.sleep(30)
        if fault == "html":
            return await self._send(writer, 200, b"<html>bad gateway</html>", "Content-Type: text/html\r\n")
        if fault in ("429", "500", "503"):
            wait = "" if fault == "500" or self.retry_after is None else f"Retry-After: {self.retry_after}\r\n"
            error = {"error": {"message": f"planned {fault}", "code": "planned"}}
            return await self._send(writer, int(fault), json.dumps(error).encode(), wait)
        if fault in CANNED:
            return await self._send(writer, 200, CANNED[fault])
        status, answer = self._body(path, body)
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if fault in ("half", "cut"):
            payload = payload[: len(payload) // 2]
        return await self._send(writer, status, payload, short=50 if fault == "half" else 0)

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, payload: bytes, extra: str = "", short: int = 0
    ) -> bool:
        kind = "" if "Content-Type" in extra else "Content-Type: application/json\r\n"
        writer.write(
            f"HTTP/1.1 {status} X\r\n{kind}{extra}Content-Length: {len(payload) + short}\r\n\r\n".encode() + payload
        )
        await writer.drain()
        return not short

    def _fault(self, raw: bytes) -> str | None:
        """The same request meets the same faults, in whatever order requests come."""
        key = hashlib.sha256(raw).digest()
        attempt = self._tries[key]
        self._tries[key] += 1
        if attempt >= self.worst or not self.faults:
            return None
        draw = random.Random(f"{self.seed}:{key.hex()}:{attempt}").random()
        for name, share in self.faults.items():
            if draw < share:
                return name
            draw -= share
        return None

    def _body(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        usage = {"prompt_tokens": 7, "completion_tokens": 0}
        if path in ("/pooling", "/classify", "/score"):
            answer = self.answer({**body, "path": path})
            if isinstance(answer, bytes):
                return 200, answer
            key = {"/pooling": "data", "/classify": "probs", "/score": "score"}[path]
            return answer if isinstance(answer, tuple) else (200, {"data": [{key: answer}], "usage": usage})
        if body.get("n", 1) > 1 and not self.know_n:
            return 400, {"error": {"message": "n is not supported", "code": "bad_request"}}
        choices = []
        for i in range(body.get("n", 1)):
            said = self.answer({**body, "seed": body.get("seed", 0) + i})
            if isinstance(said, tuple):
                return said
            if isinstance(said, bytes):
                return 200, said
            choice = said if isinstance(said, dict) else {"message": {"role": "assistant", "content": said}}
            choices.append({"index": i, "finish_reason": "stop", **choice})
        usage = {"prompt_tokens": 100, "completion_tokens": 10 * len(choices)}
        return 200, {"choices": choices, "usage": usage}


@contextmanager
def fixed(reply: bytes) -> Iterator[str]:
    """The address (host:port) of a server that sends ``reply`` to whoever connects, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                asked, _ = listening.accept()
            except OSError:
                return
            with asked:
                asked.recv(65536)
                asked.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


if __name__ == "__main__":
    import sys

    with Server(delay=float(sys.argv[1]) if len(sys.argv) > 1 else 0.0) as server:
        server.keep = False
        print(server.url, flush=True)
        sys.stdin.read()
