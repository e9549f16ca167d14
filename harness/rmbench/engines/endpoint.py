"""An OpenAI-compatible server: chat and heads over HTTP, many requests in flight, every failure named.

Requests run on an event loop in a thread of their own, so that answers arrive while the caller works on earlier ones.
What is not a whole, well-formed answer is asked for again or becomes an error with its reason, never a verdict.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import queue
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from rmbench.core import Message
from rmbench.engines import Tokens, faults, wire
from rmbench.engines.faults import KEY as KEY
from rmbench.engines.faults import Failure, bare, loopback, unless_fatal
from rmbench.engines.wire import Reply as Reply
from rmbench.engines.wire import Step as Step
from rmbench.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import numpy as np

J = TypeVar("J")
R = TypeVar("R")
B = TypeVar("B", bound=wire.Body)


class ChatRequest(NamedTuple):
    """One conversation to answer, ``samples`` times. Sample i is seeded by ``seed + i``."""

    messages: tuple[Message, ...]
    samples: int = 1
    seed: int = 0
    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top: int = 0
    """Alternatives wanted for each token written, with their log-probabilities."""
    shown: int = 0
    """Responses in it: how many labels its verdict can have."""


class Answer(NamedTuple):
    """The samples of a request."""

    number: int
    """Of the request, counted from 0."""
    replies: list[Reply]
    tokens: int = 0
    """Of the prompt."""


class Endpoint:
    """One model behind one server. ``settings`` hold what can change a score as far as it can be known, ``info`` what
    was measured and what the server says it serves."""

    exact = False
    tokenizer = None
    device = "endpoint"
    counted = ("requests", "retries", "input_tokens", "output_tokens", "cost")
    """What of ``info`` adds up over the sessions of a run."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        key: str | None = None,
        concurrency: int = 16,
        rate: float | None = None,
        retries: int = 6,
        timeout: float = 120.0,
        backoff: float = 0.5,
        prices: tuple[float, float] | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url or "https://api.openai.com/v1"
        self.concurrency = concurrency
        self.settings: dict[str, Any] = {"engine": "endpoint", "model": model, "server": _host(self.base_url)}
        self._key = key
        self._gap = 1 / rate if rate else 0.0
        self._retries = retries
        self._timeout = timeout
        self._backoff = backoff
        self._prices = prices
        self._proxy: faults.Proxy | None = None
        self._random = random.Random(0)
        self._next = 0.0
        self._many = True
        self._limit = "max_tokens"
        self._served: set[str] = set()
        self._counts = {"requests": 0, "retries": 0, "input_tokens": 0, "output_tokens": 0}

    @property
    def info(self) -> dict[str, Any]:
        """Requests, retries and tokens so far, and what they cost where prices are known."""
        info: dict[str, Any] = {"base_url": bare(self.base_url), **self._counts}
        info["served"] = sorted(self._served - {""})
        if self._prices is not None:
            paid, written = self._counts["input_tokens"], self._counts["output_tokens"]
            info["price_per_million"] = list(self._prices)
            info["cost"] = round((paid * self._prices[0] + written * self._prices[1]) / 1e6, 6)
        return info

    def chat(self, requests: Iterable[ChatRequest]) -> Iterator[Answer]:
        """The samples of every request, in the order in which they arrive; requests are taken as places become free.

        Raises BadModel where the server refuses every request alike (key, model's name); all else is in the replies.
        """

        async def work(client: Any, request: ChatRequest) -> tuple[list[Reply], int]:
            return await self._samples(client, request)

        for number, (replies, tokens) in self._stream(requests, work):
            yield Answer(number, replies, tokens)

    def logits(self, groups: Sequence[Sequence[Tokens | Sequence[Message]]]) -> Iterator[list[np.ndarray[Any, Any]]]:
        """Raw head outputs of shape (labels,) from a vLLM server, for token ids or messages, in the order of groups.

        A conversation that the server does not score is NaN. Raises BadModel where there is no such head.
        """
        import numpy as np

        async def work(client: Any, one: Tokens | Sequence[Message]) -> list[float]:
            return await self._head(client, one)

        flat = [one for group in groups for one in group]
        rows: dict[int, list[float]] = dict(self._stream(flat, work))
        at = 0
        for group in groups:
            yield [np.array(rows[at + i], dtype=np.float64) for i in range(len(group))]
            at += len(group)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """A cross-encoder's raw score per (text, text) from vLLM's ``/score``; NaN where the server gives none."""

        async def work(client: Any, pair: tuple[str, str]) -> float:
            body = {"model": self.model, "text_1": pair[0], "text_2": pair[1], "use_activation": False}
            try:
                return (await self._post(client, "/score", body, wire.Scores)).data[0].score
            except Failure as failure:
                return unless_fatal(failure, float("nan"))

        return [score for _, score in sorted(self._stream(pairs, work))]

    def _stream(self, jobs: Iterable[J], work: Callable[[Any, J], Awaitable[R]]) -> Iterator[tuple[int, R]]:
        """(number, result) of each job as it is done. Jobs are taken one by one as places become free, by the thread
        that runs the requests; it pauses when the caller is far behind."""
        client = self._client()
        waiting = enumerate(jobs)
        done: queue.SimpleQueue[tuple[int, R] | None] = queue.SimpleQueue()
        begun: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._next = 0.0

        async def worker() -> None:
            for number, job in waiting:
                while done.qsize() > 4 * self.concurrency:
                    await asyncio.sleep(0.01)
                done.put((number, await work(client, job)))

        async def run() -> None:
            begun.put((asyncio.get_running_loop(), asyncio.current_task()))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.concurrency):
                        group.create_task(worker())
            finally:
                await client.close()
                done.put(None)

        with ThreadPoolExecutor(1, "rmbench-endpoint") as pool:
            running = pool.submit(asyncio.run, run())
            loop, task = begun.get()
            try:
                while (result := done.get()) is not None:
                    yield result
                running.result()
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                if not running.done():
                    loop.call_soon_threadsafe(task.cancel)

    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "api", "a server") from error
        self._proxy = faults.proxy_of(self.base_url)
        try:
            # Retries are ours: the client would not retry a body that is cut short or not JSON, nor pause the others.
            return openai.AsyncOpenAI(
                base_url=self.base_url, api_key=self._key or "none", max_retries=0, timeout=self._timeout
            )
        except (OSError, ValueError, ImportError) as error:
            raise faults.unusable(error, self.base_url, self._proxy) from error

    async def _samples(self, client: Any, request: ChatRequest) -> tuple[list[Reply], int]:
        replies: list[Reply] = []
        tokens = given = 0
        while (missing := request.samples - len(replies)) > 0:
            want = missing if self._many else 1
            limit = self._limit
            try:
                body = await self._ask(client, request, want, request.seed + given)
            except Failure as failure:
                if failure.status == 400 and "max_completion_tokens" in str(failure) and limit == "max_tokens":
                    self._limit = "max_completion_tokens"
                elif failure.status in (400, 422) and want > 1:
                    # Some servers know no ``n``; whether it was that, one sample at a time will tell.
                    self._many = False
                else:
                    unless_fatal(failure, None)
                    replies += [Reply(error=str(failure))] * missing
                continue
            read, written = body.counted
            tokens += read
            self._served.add(body.served)
            taken = body.choices[:want]
            # Counted with those that failed: no seed is drawn from twice.
            given += len(taken)
            for choice in taken:
                failed = wire.failure_of(choice)
                if failed is None:
                    replies.append(wire.reply(choice, written // len(body.choices)))
                elif failed.after is None:
                    replies.append(Reply(error=unless_fatal(failed, self._hide(str(failed)))))
        return replies, tokens

    async def _ask(self, client: Any, request: ChatRequest, n: int, seed: int) -> wire.Chat:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
            "seed": seed,
            self._limit: request.max_tokens,
        }
        if request.temperature > 0:
            # Said also where it is 1: a server may have a default of the model's own.
            body["top_p"] = request.top_p
        if n > 1:
            body["n"] = n
        if request.top:
            body |= {"logprobs": True, "top_logprobs": request.top}
        create = functools.partial(client.chat.completions.with_raw_response.create, **body)
        return await self._retrying(create, wire.Chat, steps=request.top > 0)

    async def _head(self, client: Any, one: Tokens | Sequence[Message]) -> list[float]:
        body: dict[str, Any] = {"model": self.model, "use_activation": False}
        if one and isinstance(one[0], Message):
            body["messages"] = [{"role": m.role, "content": m.content} for m in one if isinstance(m, Message)]
            body["add_generation_prompt"] = False
        else:
            body["input"] = list(one)
        try:
            pooled = await self._post(client, "/pooling", {**body, "task": "classify"}, wire.Pooled)
            return pooled.data[0].data
        except Failure as failure:
            if failure.status not in (400, 404, 405):
                return unless_fatal(failure, [float("nan")])
        try:
            return (await self._post(client, "/classify", body, wire.Classified)).data[0].probs
        except Failure as failure:
            return unless_fatal(failure, [float("nan")])

    async def _post(self, client: Any, path: str, body: dict[str, Any], shape: type[B]) -> B:
        """vLLM's own routes, which stand beside ``/v1`` and not under it."""
        url = self.base_url.rstrip("/").removesuffix("/v1") + path
        raw = {"headers": {"X-Stainless-Raw-Response": "true"}}
        return await self._retrying(lambda: client.post(url, cast_to=object, body=body, options=raw), shape)

    async def _retrying(self, call: Callable[[], Awaitable[Any]], shape: type[B], *, steps: bool = False) -> B:
        attempt = 0
        while True:
            try:
                async with self._named_failures():
                    await self._turn()
                    self._counts["requests"] += 1
                    async with asyncio.timeout(self._timeout):
                        response = await call()
                    answer = wire.read(response.content, shape)
                    # Paid for, whatever it says.
                    read, written = answer.counted
                    self._counts["input_tokens"] += read
                    self._counts["output_tokens"] += written
                    wire.check(answer, steps=steps)
                    return answer
            except Failure as failure:
                if failure.after is None or attempt >= self._retries:
                    tries = f" (asked {attempt + 1} times)" if attempt else ""
                    reason = self._hide(str(failure)) + tries
                    raise Failure(reason, None, failure.status, self._hide(failure.advice)) from None
                if failure.after:
                    # One request's limit is everyone's: the others would only be refused too.
                    self._next = max(self._next, time.monotonic() + failure.after)
                else:
                    delay = min(30.0, self._backoff * 2**attempt)
                    await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            attempt += 1
            self._counts["retries"] += 1

    async def _turn(self) -> None:
        """Waits for this request's place under the rate limit, and for the end of a pause that the server asked for."""
        while (wait := self._next - time.monotonic()) > 0 and not self._gap:
            await asyncio.sleep(wait)
        if self._gap:
            at = max(self._next, time.monotonic())
            self._next = at + self._gap
            await asyncio.sleep(at - time.monotonic())

    @asynccontextmanager
    async def _named_failures(self) -> AsyncIterator[None]:
        """Every way in which a request can fail, as a Failure with its reason."""
        import openai

        try:
            yield
        except (TimeoutError, openai.APITimeoutError):
            raise Failure(f"timeout after {self._timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise faults.of_connection(error, self.base_url, self._proxy) from None
        except openai.APIStatusError as error:
            raise faults.of_status(error, self.base_url, self._proxy) from None

    def _hide(self, text: str) -> str:
        """Short, and without the key or what of it a server masked."""
        return (re.sub(re.escape(self._key[:8]) + r"\S*", "***", text) if self._key else text)[:320]


def open(ref: str, options: Any) -> Endpoint:
    """The engine for model ``ref`` at ``--base-url``; UsageError where a key is needed and not in the environment."""
    key = os.environ.get(KEY, "").strip() or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY} holds characters that no key has; set it again")
    url = options.base_url
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"--base-url {url}: write it whole, as in http://localhost:8000/v1")
    try:
        urlsplit(url or "").port  # noqa: B018 - raises for one that is none
    except ValueError as error:
        raise UsageError(f"--base-url {bare(url)}: {error}") from None
    if url is not None and ("@" in urlsplit(url).netloc or urlsplit(url).query):
        # A run keeps its command, and must not keep a key.
        raise UsageError(f"--base-url {bare(url)}: leave out user, password and query; the key goes into {KEY}")
    if key is None and (url is None or not loopback(url)):
        raise UsageError(f"{bare(url) if url else 'api.openai.com'} needs a key: set {KEY} in the environment")
    for name in ("concurrency", "rate", "timeout"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise UsageError(f"--{name} {value}: must be above 0")
    if options.retries is not None and options.retries < 0:
        raise UsageError(f"--retries {options.retries}: must be 0 or more")
    return Endpoint(
        ref,
        url,
        key=key,
        concurrency=options.concurrency or 16,
        rate=options.rate,
        retries=6 if options.retries is None else options.retries,
        timeout=options.timeout or 120.0,
        prices=read_prices(options.prices, ref) if options.prices else None,
    )


def read_prices(given: str, model: str) -> tuple[float, float]:
    """(input, output) per million tokens, from ``1.5,6`` or a JSON file ``{"model": [1.5, 6]}``."""
    text = given
    if not all(c in "0123456789., " for c in given):
        try:
            table = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--prices {given}: give INPUT,OUTPUT or a JSON file ({error})") from error
        if not isinstance(table, Mapping) or not isinstance(table.get(model), list):
            raise UsageError(f"--prices {given}: no entry {model!r}: [input, output] per million tokens")
        text = ",".join(str(v) for v in table[model])
    try:
        paid, written = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError(f"--prices {given}: give two numbers, INPUT,OUTPUT per million tokens") from error
    return paid, written


def _host(url: str) -> str:
    """Loopback servers change their port from start to start, which changes no score."""
    return "loopback" if loopback(url) else urlsplit(url).hostname or url
