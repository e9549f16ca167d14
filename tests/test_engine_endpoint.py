"""The endpoint engine against a server that misbehaves: nothing is lost, nothing is counted that was not said."""

from __future__ import annotations

import gc
import json
import logging
import math
import re
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from rmbench.adapters.options import Options
from rmbench.core import Message
from rmbench.engines import endpoint, faults
from rmbench.engines.endpoint import ChatRequest, Endpoint, Reply
from rmbench.errors import BadModel, UsageError
from server import FAULTS, Server

pytest.importorskip("openai", reason="the endpoint engine needs the openai client: pip install 'rmbench[api]'")

KEY = "sk-secret-0123456789"


def ask(text: str = "hello", **more: Any) -> ChatRequest:
    return ChatRequest((Message(role="user", content=text),), **more)


def engine(server: Server, **more: Any) -> Endpoint:
    return Endpoint("m", server.url, **{"backoff": 0.001, "timeout": 5.0, **more})


def one(server: Server, request: ChatRequest | None = None, **more: Any) -> Reply:
    (answer,) = engine(server, **more).chat([request or ask()])
    (reply,) = answer.replies
    return reply


def echo(body: dict[str, Any]) -> str:
    return f"said {body['messages'][-1]['content']}"


def test_answers_come_back_to_their_requests() -> None:
    with Server(echo) as server:
        made = engine(server, concurrency=8)
        answers = {a.number: a for a in made.chat(ask(f"q{i}") for i in range(200))}
    assert [answers[i].replies[0].text for i in range(200)] == [f"said q{i}" for i in range(200)]
    assert answers[0].tokens == 100
    assert answers[0].replies[0].tokens == 10
    assert made.info["requests"] == 200
    assert made.info["retries"] == 0


def test_what_is_sent() -> None:
    with Server(echo) as server:
        one(server, ask("hi", seed=7, max_tokens=5, temperature=0.5, top_p=0.9, top=3))
        (body,) = server.requests
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 7, "max_tokens": 5, "temperature": 0.5,
        "top_p": 0.9, "logprobs": True, "top_logprobs": 3,
    }  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_asked_again(fault: str) -> None:
    with Server(echo, {fault: 1.0}) as server:
        made = engine(server, timeout=0.3)
        (answer,) = made.chat([ask()])
        assert server.met[fault] == 2
    assert answer.replies == [Reply(text="said hello", tokens=10)]
    assert made.info["retries"] == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "HTTP 429: planned, planned 429"), ("500", "HTTP 500"), ("503", "HTTP 503"),
        ("drop", "connection failed"), ("half", "connection failed"), ("cut", "malformed body"),
        ("html", "malformed body"), ("junk", "malformed body"), ("empty", "holds no answer"),
        ("slow", "timeout after 0.2 s"), ("error-200", "server said 502, upstream overloaded"),
    ],
)  # fmt: skip
def test_a_fault_that_stays_is_an_error_with_its_reason(fault: str, reason: str) -> None:
    with Server(echo, {fault: 1.0}, worst=99) as server:
        reply = one(server, retries=2, timeout=0.2)
    assert reply.text == ""
    assert reason in (reply.error or "")
    assert "(asked 3 times)" in (reply.error or "")


def test_every_reason_is_covered() -> None:
    covered = test_a_fault_that_stays_is_an_error_with_its_reason.pytestmark[0].args[1]
    assert {fault for fault, _ in covered} == set(FAULTS)


def test_a_storm_of_faults_loses_nothing() -> None:
    with Server(echo, dict.fromkeys(FAULTS, 0.05), seed=3) as server:
        made = engine(server, concurrency=32, timeout=1.5, retries=20)
        answers = list(made.chat(ask(f"q{i}") for i in range(300)))
        assert set(server.met) == set(FAULTS)
        assert server.most > 8
    assert sorted(a.number for a in answers) == list(range(300))
    assert [a.replies[0].error for a in answers if a.replies[0].text != f"said q{a.number}"] == []


@pytest.mark.parametrize(
    ("choice", "reply"),
    [
        (
            {"message": {"content": "[[A]]"}, "finish_reason": "content_filter"},
            Reply(error="content filter", tokens=10),
        ),
        ({"message": {"content": None, "refusal": "I will not"}}, Reply(error="refused: I will not", tokens=10)),
        ({"message": {"content": None}}, Reply(error="empty answer", tokens=10)),
        ({"message": {"content": "[[A"}, "finish_reason": "length"}, Reply(text="[[A", tokens=10, finish="length")),
        ({"message": {"content": "[[A]]", "reasoning_content": "[[B]]"}}, Reply("[[A]]", "[[B]]", 10)),
        ({"message": {"content": "[[A]]", "reasoning": "hm"}}, Reply("[[A]]", "hm", 10)),
        (
            {"message": {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "[[B]]"}]}},
            Reply("[[B]]", tokens=10),
        ),
        ((400, {"error": {"code": "content_filter", "message": "no"}}), Reply(error="content filter")),
        ((400, {"error": {"message": "too long"}}), Reply(error="HTTP 400: too long")),
        ((422, {"detail": "odd"}), Reply(error='HTTP 422: {"detail": "odd"}')),
    ],
)
def test_answers_that_are_none(choice: Any, reply: Reply) -> None:
    with Server(lambda body: choice) as server:
        assert one(server) == reply
        assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "said"), [(401, endpoint.KEY), (403, endpoint.KEY), (404, "--base-url")])
def test_what_every_request_would_meet_stops_the_run(status: int, said: str) -> None:
    with Server(lambda body: (status, {"error": {"message": f"bad key {KEY}"}})) as server:
        with pytest.raises(BadModel, match=said) as caught:
            list(engine(server, key=KEY, concurrency=4).chat(ask(str(i)) for i in range(50)))
        assert len(server.requests) <= 8
    assert KEY not in str(caught.value)


def test_a_server_that_is_not_there_stops_the_run() -> None:
    with Server(echo) as server:
        url = server.url
    with pytest.raises(BadModel, match="nothing listens"):
        list(Endpoint("m", url, retries=1, backoff=0.01).chat(ask(str(i)) for i in range(50)))


def test_used_up_quota_stops_the_run_at_once() -> None:
    refusal = 429, {"error": {"code": "insufficient_quota", "message": "pay first"}}
    with Server(lambda body: refusal) as server:
        with pytest.raises(BadModel, match="pay first"):
            one(server)
        assert len(server.requests) == 1


def test_n_samples_in_one_request_or_one_by_one() -> None:
    def seeded(body: dict[str, Any]) -> str:
        return f"seed {body['seed']}"

    said = {}
    for know_n in (True, False):
        with Server(seeded, know_n=know_n) as server:
            (answer,) = engine(server).chat([ask(samples=4, seed=10, temperature=1.0)])
            said[know_n] = [r.text for r in answer.replies]
            assert len(server.requests) == (1 if know_n else 5)
    assert said[True] == said[False] == ["seed 10", "seed 11", "seed 12", "seed 13"]


def test_a_server_that_gives_fewer_choices_than_asked_is_asked_for_the_rest() -> None:
    with Server(echo) as server:
        whole = server._body
        server._body = lambda path, body: whole(path, {**body, "n": min(2, body.get("n", 1))})  # type: ignore[method-assign]
        (answer,) = engine(server).chat([ask(samples=5)])
        assert [b["seed"] for b in server.requests] == [0, 2, 4]
    assert [r.error for r in answer.replies] == [None] * 5


def test_models_that_want_max_completion_tokens() -> None:
    def picky(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported: use 'max_completion_tokens' instead", "code": "x"}}
        return "fine"

    with Server(picky) as server:
        answers = list(engine(server, concurrency=4).chat(ask(str(i)) for i in range(20)))
    assert all(a.replies[0].text == "fine" for a in answers)


def test_retry_after_is_honoured_by_all_requests() -> None:
    with Server(echo, {"429": 1.0}, worst=1, retry_after="0.5") as server:
        began = time.monotonic()
        answers = list(engine(server, concurrency=20).chat(ask(str(i)) for i in range(20)))
        took = time.monotonic() - began
        assert server.met["429"] <= 20
    assert len(answers) == 20
    assert took >= 0.5


def test_retry_after_in_all_its_forms() -> None:
    after = faults._retry_after
    assert after({"retry-after": "2"}) == 2
    assert after({"retry-after-ms": "250"}) == 0.25
    assert 8 < after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert after({"retry-after": formatdate(time.time() - 10, usegmt=True)}) == 0
    for junk in ("", "soon", "-3", "nan", "1x", "Wed, 99 Foo 2026"):
        assert after({"retry-after": junk}) == 0


def test_a_server_that_asks_for_an_hour_is_not_waited_for() -> None:
    with Server(echo, {"429": 1.0}, worst=99, retry_after="3600") as server:
        reply = one(server)
        assert len(server.requests) == 1
    assert "asks to wait 3600 s" in (reply.error or "")


def test_rate_limit() -> None:
    with Server(echo) as server:
        began = time.monotonic()
        list(engine(server, rate=50, concurrency=30).chat(ask(str(i)) for i in range(30)))
        assert time.monotonic() - began >= 29 / 50


def test_no_more_than_concurrency_in_flight() -> None:
    with Server(echo, delay=0.02) as server:
        list(engine(server, concurrency=5).chat(ask(str(i)) for i in range(60)))
        assert server.most == 5


def test_requests_go_on_while_the_caller_is_busy_but_not_without_end() -> None:
    taken = []

    def requests() -> Any:
        for i in range(200):
            taken.append(i)
            yield ask(str(i))

    with Server(echo) as server:
        answers = engine(server, concurrency=4).chat(requests())
        next(answers)
        deadline = time.monotonic() + 10
        while len(taken) < 16 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        assert 16 <= len(taken) < 40
        assert len(list(answers)) == 199


def test_a_caller_who_leaves_early_leaves_nothing_behind() -> None:
    before = threading.active_count()
    with Server(echo, delay=0.05) as server:
        answers = engine(server, concurrency=8).chat(ask(str(i)) for i in range(1000))
        next(answers)
        answers.close()
        assert threading.active_count() == before + 1
        asked = len(server.requests)
        time.sleep(0.2)
        assert len(server.requests) == asked < 100
    gc.collect()


def test_an_error_among_the_requests_reaches_the_caller() -> None:
    def requests() -> Any:
        yield ask()
        raise KeyError("mine")

    with Server(echo) as server, pytest.raises(KeyError, match="mine"):
        list(engine(server).chat(requests()))


def test_works_inside_a_running_event_loop() -> None:
    import asyncio

    async def notebook() -> list[Any]:
        return list(engine(server).chat([ask()]))

    with Server(echo) as server:
        assert len(asyncio.run(notebook())) == 1


def test_the_key_is_sent_and_nothing_else_knows_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(endpoint.KEY, KEY)
    caplog.set_level(logging.DEBUG)
    answers: list[Any] = [(400, {"error": {"message": f"{'long ' * 59}you sent {KEY}"}}), "fine"]
    with Server(lambda body: answers.pop()) as server:
        made = endpoint.open("m", Options(base_url=server.url))
        replies = [a.replies[0] for a in made.chat([ask("1"), ask("2")])]
        assert {h["authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    assert sorted(r.error or "" for r in replies) == ["", f"HTTP 400: {'long ' * 59}you sent ***"]
    for url in (f"https://user:{KEY}@a.example/v1", f"https://a.example/v1?key={KEY}"):
        with pytest.raises(UsageError, match="leave out") as caught:
            endpoint.open("m", Options(base_url=url))
        assert KEY not in str(caught.value)
    for held in (made.settings, made.info, caplog.text, replies):
        assert KEY[:8] not in repr(held)


def test_open_refuses_what_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(endpoint.KEY, raising=False)
    for options, message in (
        (Options(), "set OPENAI_API_KEY"),
        (Options(base_url="https://api.example.com/v1"), "api.example.com/v1 needs a key"),
        (Options(base_url="localhost:8000"), "http://localhost:8000/v1"),
        (Options(base_url="http://localhost:8000/v1", concurrency=0), "--concurrency 0"),
        (Options(base_url="http://localhost:8000/v1", rate=-1), "--rate -1"),
        (Options(base_url="http://localhost:8000/v1", retries=-1), "--retries -1"),
        (Options(base_url="http://localhost:8000/v1", prices="1"), "INPUT,OUTPUT"),
        (Options(base_url="http://localhost:8000/v1", prices="none.json"), "none.json"),
    ):
        with pytest.raises(UsageError, match=message):
            endpoint.open("m", options)


def test_a_key_with_a_line_end_is_trimmed_and_an_odd_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(echo) as server:
        monkeypatch.setenv(endpoint.KEY, KEY + "\n")
        list(endpoint.open("m", Options(base_url=server.url)).chat([ask()]))
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        monkeypatch.setenv(endpoint.KEY, KEY + "\u2019")
        with pytest.raises(UsageError, match="no key has"):
            endpoint.open("m", Options(base_url=server.url))


def test_a_loopback_port_is_no_setting() -> None:
    settings = [Endpoint("m", f"http://127.0.0.1:{port}/v1").settings for port in (1, 2)]
    assert settings[0] == settings[1]
    assert Endpoint("m", "https://a.example/v1").settings != Endpoint("m", "https://b.example/v1").settings


def test_what_the_server_says_it_serves() -> None:
    with Server(echo) as server:
        whole = server._body
        more = {"model": "m-2026", "system_fingerprint": "fp1"}
        server._body = lambda path, body: (200, whole(path, body)[1] | more)  # type: ignore[method-assign]
        made = engine(server)
        list(made.chat([ask("1"), ask("2")]))
    assert made.info["served"] == ["m-2026 fp1"]


def test_cost(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"m": [2.0, 8]}))
    assert endpoint.read_prices(str(file), "m") == endpoint.read_prices("2, 8", "m") == (2.0, 8.0)
    with pytest.raises(UsageError, match="no entry 'other'"):
        endpoint.read_prices(str(file), "other")
    with Server(echo) as server:
        made = engine(server, prices=(2.0, 8.0))
        list(made.chat(ask(str(i)) for i in range(10)))
    assert made.info["input_tokens"] == 1000
    assert made.info["output_tokens"] == 100
    assert made.info["cost"] == pytest.approx((1000 * 2 + 100 * 8) / 1e6)


def test_heads_of_a_server() -> None:
    def head(body: dict[str, Any]) -> Any:
        if body["path"] == "/score":
            return float(len(body["text_2"]))
        said = body["messages"][-1]["content"] if "messages" in body else body["input"]
        if said == "bad":
            return 400, {"error": {"message": "too long"}}
        return [float(len(said)), 1.0]

    turns = [[(Message(role="user", content="q"), Message(role="assistant", content="x" * n)) for n in (3, 5)]]
    bad = [(Message(role="user", content="bad"),)]
    with Server(head, {"429": 0.5, "cut": 0.5}) as server:
        made = engine(server)
        groups = list(made.logits([*turns, [[1, 2, 3, 4]], bad]))
        scores = made.scores([("a", "bb"), ("a", "cccc")])
        pooled = server.requests[0]
    assert [g.tolist() for g in groups[0]] == [[3.0, 1.0], [5.0, 1.0]]
    assert groups[1][0].tolist() == [4.0, 1.0]
    assert math.isnan(groups[2][0][0])
    assert scores == [2.0, 4.0]
    assert pooled["use_activation"] is False


def test_heads_fall_back_to_classify() -> None:
    def old(body: dict[str, Any]) -> Any:
        return (404, {"error": {"message": "no such route"}}) if body["path"] == "/pooling" else [0.5]

    with Server(old) as server:
        ((logits,),) = engine(server).logits([[[1, 2]]])
    assert logits.tolist() == [0.5]
    with Server(lambda body: (404, {})) as server, pytest.raises(BadModel, match="--base-url"):
        list(engine(server).logits([[[1, 2]]]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_judge_calls() -> None:
    """64 in flight: none lost, less than 1 GB."""
    script = Path(__file__).parents[1] / "benchmarks" / "endpoint_throughput.py"
    done = subprocess.run(
        [sys.executable, str(script), "--calls", "10000", "--flight", "64", "--rounds", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "items lost: 0" in done.stdout
    peak = re.search(r"peak (\d+) MB", done.stdout)
    assert peak is not None
    assert int(peak[1]) < 1000
