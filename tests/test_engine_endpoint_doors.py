"""What servers really send, and what stands between us and them: bookkeeping costs no verdict, no fault is misnamed."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.core import Message
from rmbench.engines import endpoint, faults, wire
from rmbench.engines.endpoint import ChatRequest, Endpoint, Reply
from rmbench.errors import BadModel, UsageError
from server import Server, fixed

pytest.importorskip("openai", reason="the endpoint engine needs the openai client: pip install 'rmbench[api]'")

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
DRAGON = "\N{DRAGON FACE}"


@pytest.fixture(autouse=True)
def _straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands between this machine and the world stays out of it."""
    for name in (*PROXIES, "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(text: str = "hello", **more: Any) -> ChatRequest:
    return ChatRequest((Message(role="user", content=text),), **more)


def engine(url: str, **more: Any) -> Endpoint:
    return Endpoint("m", url, **{"backoff": 0.001, "timeout": 5.0, "retries": 2, **more})


def replies(server: Server, request: ChatRequest | None = None, **more: Any) -> list[Reply]:
    (answer,) = engine(server.url, **more).chat([request or ask()])
    return answer.replies


def body(content: Any = "[[A]]", *, usage: Any = None, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}
    return {"choices": [choice], "usage": usage}


def events(*chunks: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    """An event stream as servers send it, with a comment that keeps the connection open."""
    lines = [": PROCESSING", *(f"data: {c if isinstance(c, str) else json.dumps(c)}" for c in chunks)]
    return (end.join(lines) + end).encode()


def delta(index: int = 0, finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": index, "delta": said, "finish_reason": finish}]}


# What is only noted is read leniently


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        ({"prompt_tokens": 100, "completion_tokens": None}, 0), ({"prompt_tokens": 7.0, "completion_tokens": 10.0}, 10),
        ({"prompt_tokens": "7", "completion_tokens": "10"}, 10), ({"completion_tokens": -1}, 0), ({}, 0), ([], 0),
        ("none", 0), ({"prompt_tokens": {"cached": 3}, "completion_tokens": float("nan")}, 0), (None, 0),
    ],
)  # fmt: skip
def test_usage_of_any_shape_costs_no_verdict(usage: Any, written: int) -> None:
    with Server(lambda asked: json.dumps(body(usage=usage)).encode()) as server:
        assert replies(server) == [Reply("[[A]]", tokens=written)]
        assert len(server.requests) == 1


def test_usage_of_any_shape_costs_no_score_of_a_head() -> None:
    said = {"data": [{"data": [1.5]}], "usage": {"prompt_tokens": 3.0, "completion_tokens": None}, "id": 7}
    with Server(lambda asked: json.dumps(said).encode()) as server:
        made = engine(server.url)
        ((logits,),) = made.logits([[[1, 2]]])
        assert len(server.requests) == 1
    assert logits.tolist() == [1.5]
    assert made.info["input_tokens"] == 3


@pytest.mark.parametrize(
    ("said", "thinking"),
    [
        ({"reasoning": {"text": "hm", "effort": 2}}, '{"text":"hm","effort":2}'), ({"reasoning": {}}, None),
        ({"reasoning_content": [{"type": "text", "text": "hm"}]}, '[{"type":"text","text":"hm"}]'),
        ({"reasoning": 3, "reasoning_content": "hm"}, "hm"), ({"reasoning": None, "refusal": ""}, None),
        ({"refusal": {}, "reasoning": False}, None),
    ],
)  # fmt: skip
def test_reasoning_of_any_shape_costs_no_verdict(said: dict[str, Any], thinking: str | None) -> None:
    with Server(lambda asked: json.dumps(body(**said)).encode()) as server:
        assert replies(server) == [Reply("[[A]]", thinking)]
        assert len(server.requests) == 1


def test_names_and_ids_of_any_shape_cost_no_verdict() -> None:
    odd = body() | {"id": None, "model": {"name": "m"}, "system_fingerprint": 7, "created": 1.5, "object": []}
    with Server(lambda asked: json.dumps(odd).encode()) as server:
        made = engine(server.url)
        (answer,) = made.chat([ask()])
        assert len(server.requests) == 1
    assert answer.replies == [Reply("[[A]]")]
    assert made.info["served"] == []


def test_logprobs_that_nobody_asked_for_cost_no_verdict_and_those_asked_for_are_read_strictly() -> None:
    odd = body()
    odd["choices"][0]["logprobs"] = {"content": [{"token": 7, "logprob": "low"}]}
    with Server(lambda asked: json.dumps(odd).encode()) as server:
        assert replies(server) == [Reply("[[A]]")]
        assert len(server.requests) == 1
        (reply,) = replies(server, ask(top=5))
        assert "malformed body" in (reply.error or "")


def test_a_label_that_cannot_be_has_no_probability_and_costs_no_verdict() -> None:
    step = {"token": "A", "logprob": 0.0, "top_logprobs": [{"token": "B", "logprob": float("-inf")}]}
    made = body("A")
    made["choices"][0]["logprobs"] = {"content": [step]}
    with Server(lambda asked: json.dumps(made).encode()) as server:
        (reply,) = replies(server, ask(top=5))
        assert len(server.requests) == 1
    assert dict(reply.steps[0].alternatives) == {"A": 0.0, "B": float("-inf")}


# What is needed is read strictly


@pytest.mark.parametrize(
    "said",
    [
        body(7), body({"text": "[[A]]"}), {"choices": [{"finish_reason": "stop"}]}, {"choices": [None]}, {"choices": 1},
        {"choices": [{"message": None}]}, {"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]},
        {"detail": "loading"}, [], "[[A]]",
    ],
)  # fmt: skip
def test_a_text_that_is_none_is_asked_for_again_and_is_never_a_verdict(said: Any) -> None:
    with Server(lambda asked: json.dumps(said).encode()) as server:
        (reply,) = replies(server)
        assert len(server.requests) == 3
    assert reply.text == ""
    assert "malformed body" in (reply.error or "")


def test_a_page_says_that_it_is_one() -> None:
    with Server(lambda asked: b"<!doctype html><title>Sign in</title>") as server:
        (reply,) = replies(server, retries=0)
    assert "malformed body (a page of HTML" in (reply.error or "")


def test_parts_of_other_types_cost_no_verdict() -> None:
    parts = [{"type": "reasoning", "text": {"summary": []}}, {"type": "output_text", "text": "[[B]]"}]
    with Server(lambda asked: json.dumps(body(parts)).encode()) as server:
        assert replies(server) == [Reply("[[B]]")]


# Bytes: marks, encodings, halves of characters, streams


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_costs_no_verdict(encoding: str) -> None:
    payload = json.dumps(body(f"{DRAGON} [[A]]"), ensure_ascii=False).encode(encoding)
    with Server(lambda asked: payload) as server:
        assert replies(server) == [Reply(f"{DRAGON} [[A]]")]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (rb"cut \ud83d [[A]]", "cut \ufffd [[A]]"), (rb"\udc32\ud83d [[A]]", "\ufffd\ufffd [[A]]"),
        (rb"whole \ud83d\udc32 [[A]]", f"whole {DRAGON} [[A]]"),
        (b"bytes \xed\xa0\xbd [[A]]", "bytes \ufffd\ufffd\ufffd [[A]]"),
        (b"latin \xe9 [[A]]", "latin \ufffd [[A]]"), (b"line\nend [[A]]", "line\nend [[A]]"),
    ],
)  # fmt: skip
def test_half_a_character_costs_no_verdict(text: bytes, read: str) -> None:
    payload = json.dumps(body("TEXT")).encode().replace(b"TEXT", text)
    with Server(lambda asked: payload) as server:
        (reply,) = replies(server)
        assert len(server.requests) == 1
    assert reply == Reply(read)
    assert reply.text.encode()  # can be stored


def test_half_a_character_in_an_error_can_be_stored() -> None:
    with Server(lambda asked: (400, {"error": {"message": "bad \ud83d here"}})) as server:
        (reply,) = replies(server)
    assert reply.error == "HTTP 400: bad \ufffd here"


@pytest.mark.parametrize("end", ["\n\n", "\n", "\r\n\r\n"])
def test_an_event_stream_is_read(end: str) -> None:
    stream = events(
        delta(role="assistant", content=""), delta(reasoning="a "), delta(reasoning="b"),
        delta(content="It is \ud83d"), delta(content="\udc32 [["), delta(content="A]]"), delta(finish="stop"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}, "[DONE]", end=end,
    )  # fmt: skip
    with Server(lambda asked: stream) as server:
        made = engine(server.url)
        (answer,) = made.chat([ask()])
        assert len(server.requests) == 1
    assert answer.replies == [Reply(f"It is {DRAGON} [[A]]", "a b", 4)]
    assert answer.tokens == 5
    assert made.info["served"] == ["m-1"]


def test_an_event_stream_of_several_samples_with_log_probabilities() -> None:
    def token(text: str) -> dict[str, Any]:
        return {"content": [{"token": text, "logprob": -0.5}]}

    chunks = [delta(1, content="b"), delta(0, content="a"), delta(0, content="A"), delta(1, content="B")]
    for chunk in chunks:
        chunk["choices"][0]["logprobs"] = token(chunk["choices"][0]["delta"]["content"])
    stream = events(*chunks, delta(0, "stop"), delta(1, "length"))
    with Server(lambda asked: stream) as server:
        first, second = replies(server, ask(samples=2, top=1))
    assert (first.text, second.text) == ("aA", "bB")
    assert (first.finish, second.finish) == ("stop", "length")
    assert b"".join(s.token for s in second.steps) == b"bB"


def test_an_event_stream_with_a_whole_answer_in_one_event() -> None:
    with Server(lambda asked: events(body())) as server:
        assert replies(server) == [Reply("[[A]]")]


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ((delta(content="[[A]]"),), "malformed body (the event stream ends early)"),
        ((delta(content="[[A]]"), '{"choices": ['), "malformed body"),
        ((delta(content="[[A]]"), {"error": {"code": 502, "message": "gone"}, "choices": []}), "server said 502, gone"),
        (("[1]",), "malformed body"), (({"choices": [7]},), "malformed body"), (({"choices": 5},), "malformed body"),
        (({"choices": [{"index": [], "delta": 3}]},), "malformed body"), (("[DONE]",), "holds no answer"),
    ],
)  # fmt: skip
def test_an_event_stream_that_is_cut_is_asked_for_again(chunks: Any, reason: str) -> None:
    with Server(lambda asked: events(*chunks)) as server:
        (reply,) = replies(server)
        assert len(server.requests) == 3
    assert reply.text == ""
    assert reason in (reply.error or "")


NAMES = (
    "choices", "message", "delta", "content", "type", "text", "finish_reason", "error", "code", "usage", "index",
    "data", "completion_tokens", "reasoning", "refusal", "logprobs", "token", "logprob", "top_logprobs",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["[[A]]", "\ud83d", "", "error", "text"]),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.sampled_from(NAMES), of, max_size=4),
    max_leaves=24,
)


@given(
    st.binary(max_size=60)
    | VALUES.map(lambda v: json.dumps(v).encode())
    | VALUES.map(lambda v: json.dumps({"choices": [v, {"message": v}]}).encode())
    | st.lists(VALUES, max_size=4).map(lambda v: events(*(json.dumps(e) for e in v), "[DONE]")),
    st.booleans(),
)
def test_whatever_a_server_sends_is_an_answer_or_a_failure(content: bytes, steps: bool) -> None:
    for shape in (wire.Chat, wire.Pooled, wire.Scores):
        try:
            answer = wire.read(content, shape)
            assert all(n >= 0 for n in answer.counted)
            wire.check(answer, steps=steps)
        except faults.Failure as failure:
            msgspec.json.encode(str(failure))  # can be stored
            continue
        if isinstance(answer, wire.Chat):
            made = [wire.reply(c, 0) for c in answer.choices if wire.failure_of(c) is None]
            assert made
            assert msgspec.json.encode((made, answer.served))  # can be stored


# An error inside an answer


def failed(code: Any, message: str = "Provider disconnected") -> dict[str, Any]:
    said = {"message": {"content": "[[A"}, "finish_reason": "error", "error": {"code": code, "message": message}}
    return {"choices": [said]}


def test_an_error_inside_a_choice_is_asked_for_again() -> None:
    answers: list[Any] = [body("[[B]]"), failed(502)]
    with Server(lambda asked: json.dumps(answers.pop()).encode()) as server:
        assert replies(server) == [Reply("[[B]]")]
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("said", "asked", "reason"),
    [
        (failed(502), 3, "server said 502, Provider disconnected (asked 3 times)"),
        (failed("server_error"), 3, "server said server_error, Provider disconnected"),
        (failed(400, "too long"), 1, "server said 400, too long"),
        (failed(403, "requires moderation and your input was flagged"), 1, "content filter"),
        ({"error": {"code": 400, "message": "too long"}}, 1, "server said 400, too long"),
        ({"choices": [{"message": {"content": "[["}, "finish_reason": "error"}]}, 3, "server said error"),
        (body() | {"error": {"code": 503, "message": "half"}}, 3, "server said 503, half"),
    ],
)
def test_an_error_inside_an_answer_is_never_unparsed(said: Any, asked: int, reason: str) -> None:
    with Server(lambda _: json.dumps(said).encode()) as server:
        (reply,) = replies(server)
        assert len(server.requests) == asked
    assert reply.text == ""
    assert reason in (reply.error or "")


def test_a_key_that_an_answer_refuses_stops_the_run() -> None:
    with Server(lambda asked: json.dumps(failed(402, "pay first")).encode()) as server:
        with pytest.raises(BadModel, match="pay first"):
            replies(server)
        assert len(server.requests) == 1


def test_of_several_samples_only_the_failed_ones_are_asked_for_again() -> None:
    def answer(asked: dict[str, Any]) -> Any:
        if asked["seed"] == 1 and "n" in asked:
            return failed(502)["choices"][0]
        return f"seed {asked['seed']}"

    with Server(answer) as server:
        made = replies(server, ask(samples=4, temperature=1.0))
        assert [(b["seed"], b.get("n")) for b in server.requests] == [(0, 4), (4, None)]
    assert [r.text for r in made] == ["seed 0", "seed 2", "seed 3", "seed 4"]


def test_one_flagged_prompt_does_not_stop_the_run() -> None:
    refusal = 403, {"error": {"code": 403, "message": "m requires moderation on P. Your input was flagged for x."}}
    with Server(lambda asked: refusal if asked["messages"][-1]["content"] == "1" else "[[A]]") as server:
        made = {a.number: a.replies[0] for a in engine(server.url).chat(ask(str(i)) for i in range(4))}
    assert made[1].error == "content filter"
    assert [made[i].text for i in (0, 2, 3)] == ["[[A]]"] * 3


# What stands between: name, connection, proxy, TLS, HTTP


def refusal(url: str, **more: Any) -> str:
    if url.startswith("https"):
        # The client's library leaves a socket to the collector where a handshake is cancelled beside one that failed.
        more["concurrency"] = 1
    with pytest.raises((BadModel, UsageError)) as caught:
        list(engine(url, **more).chat(ask(str(i)) for i in range(5)))
    return str(caught.value)


def test_a_name_that_nobody_knows() -> None:
    said = refusal("http://nosuch.invalid/v1", retries=1)
    assert said.startswith("the name nosuch.invalid cannot be resolved (")
    assert "(asked 2 times). Check --base-url; what was done is kept" in said


def test_nothing_listens() -> None:
    with fixed(b"") as address:
        pass
    said = refusal(f"http://{address}/v1", retries=1)
    assert f"nothing listens at {address} (Connection refused) (asked 2 times)" in said
    assert "Check --base-url" in said


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_is_not_there(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fixed(b"") as gone, Server() as server:
        pass
    monkeypatch.setenv(variable, f"http://user:secret@{gone}")
    said = refusal(server.url, retries=0)
    assert f"nothing listens at the proxy http://{gone} ({variable}) (Connection refused)" in said
    assert "Set no_proxy=127.0.0.1 to go there without it" in said
    assert "secret" not in said
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        assert replies(server) == [Reply("[[A]]", tokens=10)]


def test_a_proxy_whose_name_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.invalid:3128")
    said = refusal("http://api.example/v1", retries=0)
    assert "the name of the proxy http://proxy.invalid:3128 (http_proxy) cannot be resolved" in said
    assert "Check http_proxy, or set no_proxy=api.example to go there without it" in said


def test_a_proxy_that_answers_for_a_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda asked: (503, {"error": {"message": "cannot reach it"}}), retry_after=None) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        said = refusal("http://localhost:8000/v1", retries=1)
    assert f"HTTP 503 through the proxy {proxy.url.removesuffix('/v1')} (http_proxy): cannot reach it" in said
    assert "Set no_proxy=localhost to go there without it" in said


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.removesuffix("/v1"))
        said = refusal("https://api.example/v1", retries=0)
    assert f"the proxy {proxy.url.removesuffix('/v1')} (https_proxy) refused (407 X)" in said
    assert "user and password" in said


@pytest.mark.parametrize("value", ["foo://127.0.0.1:1", "http://127.0.0.1:99999", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", value)
    assert f"http_proxy={value}: " in refusal("http://127.0.0.1:1/v1")


def test_https_on_an_http_port() -> None:
    with fixed(b"HTTP/1.1 400 Invalid request\r\n\r\n") as address:
        said = refusal(f"https://{address}/v1")
    assert "TLS failed" in said
    assert "speaks plain HTTP: write http:// in --base-url" in said
    assert "asked" not in said


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *extension], check=True, capture_output=True, cwd=tmp_path)
    return tmp_path / "cert.pem"


def test_a_certificate_that_nobody_vouches_for(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    with Server(tls=context) as server:
        said = refusal(server.url)
        assert "TLS failed (self-signed certificate" in said
        assert "SSL_CERT_FILE" in said
        assert "asked" not in said
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert replies(server) == [Reply("[[A]]", tokens=10)]


ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
TOLD = b"HTTP/1.0 400 Bad\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize("answer", [ALERT, TOLD])
def test_http_on_an_https_port(answer: bytes) -> None:
    with fixed(answer) as address:
        said = refusal(f"http://{address}/v1")
    assert re.search(f"{address} speaks TLS[:,] write https:// in --base-url", said)
    assert "asked" not in said


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_a_certificate_file_that_cannot_be_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "roots.pem"
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("no certificate\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with Server() as server:
        said = refusal(server.url)
    assert f"SSL_CERT_FILE={file}: " in said
    assert "a PEM file of certificates, or unset it" in said


def test_a_port_that_cannot_be() -> None:
    from rmbench.adapters.options import Options

    with pytest.raises(UsageError, match="99999"):
        endpoint.open("m", Options(base_url="http://127.0.0.1:99999/v1"))


def test_a_connection_that_breaks_stays_an_error_of_its_item() -> None:
    with fixed(b"") as address:
        (answer,) = engine(f"http://{address}/v1").chat([ask()])
    assert "connection failed (RemoteProtocolError: Server disconnected" in (answer.replies[0].error or "")
