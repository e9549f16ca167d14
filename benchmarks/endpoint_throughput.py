"""Judge calls per second through the endpoint engine, against the `openai` client's own bare loop on the same server.

    python benchmarks/endpoint_throughput.py [--calls 10000] [--flight 64] [--delay 0.02]

Prints calls per second of both (interleaved, best of each), the same per second of this process's CPU time (which other
work on the machine disturbs less), what was lost, and the peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rmbench.adapters import judge
from rmbench.adapters.options import Options
from rmbench.core import Item, Judgment, Message
from rmbench.engines.endpoint import ChatRequest, Endpoint

SERVER = Path(__file__).parents[1] / "tests" / "server.py"


def items(count: int) -> list[Item]:
    """Pairs of about a thousand characters."""
    return [
        Item(
            id=f"item-{i}",
            subset="all",
            prompt=(Message(role="user", content=f"Question {i}: " + "why is it so? " * 20),),
            responses=(f"answer {i} " * 40, f"reply {i} " * 40),
            grades=(1, 0),
        )
        for i in range(count)
    ]


async def bare(url: str, requests: list[ChatRequest], flight: int) -> None:
    """The client with a semaphore around each call and nothing else."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    places = asyncio.Semaphore(flight)

    async def one(request: ChatRequest) -> str | None:
        async with places:
            answer = await client.chat.completions.create(
                model="m",
                messages=[{"role": m.role, "content": m.content} for m in request.messages],  # type: ignore[misc]
                temperature=0,
                seed=request.seed,
                max_tokens=request.max_tokens,
            )
            return answer.choices[0].message.content

    await asyncio.gather(*(one(r) for r in requests))
    await client.close()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--flight", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that the server takes over each answer")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    plan = judge.make_plan(Options())
    pairs = items(given.calls // 2)
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(given.delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        calls = 2 * len(pairs)
        engine, client, lost = [], [], 0
        for _ in range(given.rounds):
            adapter = judge.Judge(plan, Endpoint("m", url, concurrency=given.flight))
            done: list[Judgment] = []
            engine.append(timed(lambda: done.extend(adapter.judge(pairs))))  # noqa: B023
            lost += len(pairs) - sum(j.scores is not None for j in done)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            requests = [adapter._request(item, shown) for item in pairs for shown in judge.orders(item, plan)]
            client.append(timed(lambda: asyncio.run(bare(url, requests, given.flight))))  # noqa: B023
            print(
                f"judge {calls / engine[-1][0]:.0f}/s ({calls / engine[-1][1]:.0f} per CPU second)  bare client "
                f"{calls / client[-1][0]:.0f}/s ({calls / client[-1][1]:.0f})  peak {peak:.0f} MB",
                flush=True,
            )
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
    wall, cpu = (min(c[i] for c in client) / min(e[i] for e in engine) for i in (0, 1))
    print(f"ratio to the bare loop: {wall:.2f} on the wall, {cpu:.2f} by CPU time; items lost: {lost}")


if __name__ == "__main__":
    main()
