"""Why a request to a server failed: name, connection, proxy, TLS or HTTP; whether to ask again, and what to set."""

from __future__ import annotations

import email.utils
import errno
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from rmbench.errors import BadModel, UsageError

KEY = "OPENAI_API_KEY"
"""Environment variable that holds the server's key; it is never stored, logged or put into an error."""

_RETRIED = frozenset((408, 409, 425, 429))
_LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more is not waited for."""
_PLAIN_HTTP = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"))
"""What OpenSSL's versions say of a server that answers in plain text."""

R = TypeVar("R")


class Failure(Exception):
    """An attempt that gave no answer; ``after`` seconds are asked for before the next one, None: no next one.
    ``advice``: what to set, where every further request must fail in the same way."""

    def __init__(self, reason: str, after: float | None = 0.0, status: int = 0, advice: str = "") -> None:
        super().__init__(reason)
        self.after = after
        self.status = status
        self.advice = advice


class Proxy(NamedTuple):
    """What stands between us and a server."""

    variable: str
    """That names it."""
    address: str
    """Without user and password."""

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"


def unless_fatal(failure: Failure, value: R) -> R:
    """``value``; raises BadModel where every further request must fail in the same way."""
    if failure.advice:
        raise BadModel(f"{failure}. {failure.advice}; what was done is kept")
    return value


def proxy_of(url: str) -> Proxy | None:
    """The proxy that requests to ``url`` go through, as the environment says it. UsageError for one that is none."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    given = getproxies()
    kind = next((k for k in (parts.scheme, "all") if given.get(k)), None)
    if kind is None or proxy_bypass(parts.netloc):
        return None
    names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    address = bare(given[kind] if "://" in given[kind] else f"http://{given[kind]}")
    try:
        urlsplit(address).port  # noqa: B018 - raises for one that is none
    except ValueError as error:
        raise UsageError(f"{variable}={address}: {error}; mend it, or {_around(url)}") from None
    return Proxy(variable, address)


def unusable(error: Exception, url: str, proxy: Proxy | None) -> UsageError:
    """Why no client could be made at all: certificates that cannot be read, or a proxy of another kind."""
    if isinstance(error, OSError):
        variable = next((v for v in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(v)), "SSL_CERT_FILE")
        why = getattr(error, "reason", None) or error.strerror or error
        return UsageError(
            f"{variable}={os.environ.get(variable, '')}: the certificates cannot be read ({why}); set SSL_CERT_FILE to "
            "a PEM file of certificates, or unset it"
        )
    where = f"{proxy.variable}={proxy.address}" if proxy else f"--base-url {bare(url)}"
    return UsageError(f"{where}: {error}; mend it{f', or {_around(url)}' if proxy else ''}")


def of_connection(error: BaseException, url: str, proxy: Proxy | None) -> Failure:
    """From an exception of the HTTP client, which keeps the cause in a chain."""
    causes = list(_causes(error))
    # By name: the client may stand on either of two HTTP libraries that call their errors alike.
    kinds = {type(cause).__name__ for cause in causes}
    host = urlsplit(url).netloc
    whom = f"{proxy}" if proxy else host
    mend = _mend(url, proxy) if proxy else "Check --base-url"
    if "ProxyError" in kinds:
        said = next((str(c) for c in causes if type(c).__name__ == "ProxyError" and str(c)), "no reason given")
        return Failure(f"{whom} refused ({said})", advice=f"{mend}; a proxy may want user and password")
    tls = next((c for c in causes if isinstance(c, ssl.SSLError)), None)
    if tls is not None and "ConnectError" in kinds:
        return _of_tls(tls, host)
    if name := next((c for c in causes if isinstance(c, socket.gaierror)), None):
        subject = f"the name of {whom}" if proxy else f"the name {urlsplit(url).hostname}"
        return Failure(f"{subject} cannot be resolved ({name.strerror})", advice=mend)
    if "ConnectError" in kinds:
        number = next((c.errno for c in reversed(causes) if isinstance(c, OSError) and c.errno), None)
        why = os.strerror(number) if number else str(causes[-1])
        what = "nothing listens at" if number == errno.ECONNREFUSED else "no connection to"
        return Failure(f"{what} {whom} ({why})", advice=mend)
    last = next((c for c in causes[1:] if str(c)), causes[-1])
    if re.search(r"illegal (request|status) line", str(last)):  # a TLS alert, read as HTTP
        return Failure("the answer is not HTTP", None, advice=f"If {host} speaks TLS, write https:// in --base-url")
    return Failure(f"connection failed ({type(last).__name__}: {last})" if str(last) else "connection failed")


def of_status(error: Any, url: str, proxy: Proxy | None) -> Failure:
    """From the client's error of an HTTP status."""
    status: int = error.status_code
    body = error.body.get("error", error.body) if isinstance(error.body, Mapping) else error.body
    reason = f"HTTP {status}{f' through {proxy}' if proxy else ''}: {said(body)}"
    if status == 400 and re.search(r"HTTPS (port|server)", reason):
        advice = f"{urlsplit(url).netloc} speaks TLS: write https:// in --base-url"
        return Failure(reason, None, status, advice)
    failure = _of_code(reason, status, _retry_after(error.response.headers))
    if proxy and status in (403, 404, 407, 502, 503, 504) and (loopback(url) or status == 407):
        failure.advice = _mend(url, proxy)
    return failure


def of_answer(body: Any) -> Failure:
    """From an error that came where an answer should be; its code, where it has one, is an HTTP status."""
    code = body.get("code") if isinstance(body, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 0
    return _of_code(f"server said {said(body)}", status)


def said(body: Any) -> str:
    """A server's error body in one line that can be stored; shortened only after a key in it was hidden."""
    if isinstance(body, Mapping):
        named = [str(body[k]) for k in ("code", "message") if body.get(k)]
        body = ", ".join(named) or json.dumps(dict(body), default=str)
    return mended(" ".join(str(body).split())[:4000]) or "(nothing)"


def mended(text: str) -> str:
    """Halves of a character put together where they stand side by side, else replaced: UTF-8 has no form for them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def bare(url: str) -> str:
    """Without user, password and query: these can hold keys."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def loopback(url: str) -> bool:
    return (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def _of_code(reason: str, status: int, after: float = 0.0) -> Failure:
    """Asked for again (429, 5xx, no status), after what time, or not at all."""
    if re.search(r"content_filter|content management policy|requires moderation", reason):
        return Failure("content filter", None, status)
    if status in (401, 402, 403) or "insufficient_quota" in reason:
        return Failure(reason, None, status, f"Check the key in {KEY} and its quota")
    if status == 404:
        return Failure(reason, None, status, "Check --model and --base-url")
    if status and status not in _RETRIED and status < 500:
        return Failure(reason, None, status)
    if after > _LONGEST_WAIT:
        return Failure(f"{reason}; the server asks to wait {after:.0f} s", None, status)
    return Failure(reason, after, status)


def _of_tls(error: ssl.SSLError, host: str) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = {
            9: "Check this machine's clock",
            10: "It has to be renewed; check this machine's clock too",
            62: "Write the name that the certificate holds in --base-url",
            64: "Write the name that the certificate holds in --base-url",
        }.get(error.verify_code, f"Set SSL_CERT_FILE to a PEM file with the certificate that {host} is vouched for by")
        return Failure(f"TLS failed ({error.verify_message}) at {host}", None, advice=advice)
    why = (error.reason or str(error)).replace("_", " ").lower()
    if error.reason in _PLAIN_HTTP:
        return Failure(f"TLS failed ({why})", None, advice=f"{host} speaks plain HTTP: write http:// in --base-url")
    return Failure(f"TLS failed ({why}) at {host}", advice="Check --base-url")


def _mend(url: str, proxy: Proxy) -> str:
    # No proxy is meant for a server on this machine.
    ways = [f"check {proxy.variable}", _around(url)]
    both = ", or ".join(reversed(ways) if loopback(url) else ways)
    return both[0].upper() + both[1:]


def _around(url: str) -> str:
    return f"set no_proxy={urlsplit(url).hostname} to go there without it"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__


def _retry_after(headers: Any) -> float:
    """Seconds; 0 where the server names none (seconds, milliseconds or a date can be given)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        if value.strip()[:1].isdigit():
            return max(0.0, float(value))
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()) if value else 0.0
    except (ValueError, OverflowError):
        return 0.0
