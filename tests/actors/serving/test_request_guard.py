"""What reaches the server from browsers, foreign pages and odd clients, and what goes back."""

import http.client
import json

import pytest

from actors.serving.proxy_middlewares import RequestHeaders, cleaned
from actors.serving.request_guard import RequestGuard
from tests.http_server import http_server, serve_config

BODY = json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}).encode()
JSON = {"Content-Type": "application/json"}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def address():
    with http_server(serve_config(serve={"allowed_hosts": ["stars.example.com", "*.inner.example.com"]})) as (url, _):
        yield url.removeprefix("http://")


def send(address, method, path, headers=None, body=None, host=None):
    """Status, headers and the error's code of one request, with exactly these headers."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for value in [address] if host is None else host:
            connection.putheader("Host", value)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        text = reply.read().decode()
        is_json = reply.headers["content-type"] == "application/json"
        return reply.status, reply.headers, json.loads(text).get("error", {}).get("code") if is_json else None
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain; application/json", 415),
        (None, 415),
    ],
)
def test_what_is_posted_is_json_and_says_so(address, kind, status):
    headers = {} if kind is None else {"Content-Type": kind}
    got, _, code = send(address, "POST", PATH, headers, BODY)
    assert got == status and (status == 200 or code == "unsupported_media_type")


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        (["127.0.0.1:8000"], True),
        (["localhost"], True),
        (["app.localhost:3000"], True),
        (["[::1]:8000"], True),
        (["10.1.2.3:8000"], True),
        (["stars.example.com"], True),
        (["STARS.example.com.:443"], True),
        (["a.inner.example.com"], True),
        (["evil.example.com"], False),
        (["inner.example.com.evil.com"], False),
        (["127.0.0.1.nip.io"], False),
        ([""], False),
        ([], False),
        (["localhost", "evil.example.com"], False),
    ],
)
def test_a_request_must_be_sent_to_this_server_by_name(address, host, is_served):
    if len(host) == 1:
        for method, path, body in (("GET", "/", None), ("GET", "/metrics", None), ("POST", PATH, BODY)):
            status, _, code = send(address, method, path, JSON, body, host)
            assert (status, code) == ((200, None) if is_served else (403, "host_not_allowed"))
    else:
        status, _, _ = send(address, "GET", "/", host=host)
        assert status in (400, 403), "the HTTP server may refuse it itself"


def test_any_name_may_be_allowed():
    guard = RequestGuard(None, ["*"])
    assert guard._is_served("evil.example.com")


def test_a_foreign_page_may_be_left_for_ours_and_do_nothing_else(address):
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}
    for method, path, body in (("POST", PATH, BODY), ("GET", "/metrics", None), ("GET", "/", None)):
        assert send(address, method, path, JSON | foreign, body)[0] == 403
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert send(address, "GET", "/", visit)[0] == 200
    assert send(address, "GET", "/", visit | {"Sec-Fetch-Dest": "iframe"})[0] == 403
    assert send(address, "POST", PATH, JSON | visit, BODY)[0] == 403
    assert send(address, "POST", PATH, JSON | {"Sec-Fetch-Site": "same-origin"}, BODY)[0] == 200


def test_no_reply_can_be_framed_sniffed_or_redirects(address):
    for method, path in (("GET", "/"), ("GET", "/nothing"), ("GET", "/health"), ("POST", PATH)):
        _, headers, _ = send(address, method, path, JSON, BODY if method == "POST" else None)
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert len(headers.get_all("content-security-policy")) == 1
    status, headers, code = send(address, "POST", PATH + "/", JSON, BODY)
    assert (status, code, headers["location"]) == (404, "not_found", None)


def test_a_request_id_is_short_and_plain_and_no_header_steers_serve():
    given = [
        (b"X-Request-ID", b"a" * 60_000),
        (b"x-request-id", b"second"),
        (b"X-Request-Timeout-Seconds", b"0.001"),
        (b"x-request-disconnect-disabled", b"?1"),
        (b"serve_multiplexed_model_id", b"m"),
        (b"Serve-Multiplexed-Model-Id", b"m"),
        (b"x-session-id", b"\xff"),
        (b"x-serve-router-anything", b"1"),
        (b"authorization", b"Bearer k"),
    ]
    assert cleaned(given) == [(b"x-request-id", b"a" * 128), (b"authorization", b"Bearer k")]
    for value, kept in (
        (b"7f3a-1_2.x", b"7f3a-1_2.x"),
        (b"<script>alert(1)</script>", b"scriptalert1script"),
        (b"a b\xff\xc3\xa9", b"ab"),
    ):
        assert cleaned([(b"x-request-id", value)]) == [(b"x-request-id", kept)]
    assert cleaned([(b"x-request-id", "…".encode())]) == []


def test_websockets_pass_the_middleware_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    scope = {"type": "lifespan"}
    coroutine = RequestHeaders(app)(scope, None, None)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert seen == [scope]
