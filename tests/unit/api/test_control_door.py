"""Who may change something, and each way to be refused."""

import pytest
from starlette.datastructures import Headers

from market_ingestor.access import AccessPolicy
from market_ingestor.api.control_door import ControlDoor
from market_ingestor.api.errors import ApiProblemError

OWN = {"host": "127.0.0.1:8080", "content-type": "application/json"}
OPEN = AccessPolicy()
READ = AccessPolicy(tokens=("read",))
BOTH = AccessPolicy(tokens=("read",), control_tokens=("steer",))
LISTED = AccessPolicy(origins=("https://desk.example",))


def answer(access: AccessPolicy, peer: str = "127.0.0.1", **headers: str | None) -> str:
    """Return ``ok`` or the status and code of the refusal."""
    given = OWN | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    try:
        ControlDoor(access, {"market"}).check(peer, Headers(raw=raw))
    except ApiProblemError as problem:
        return f"{problem.status} {problem.code}"
    return "ok"


def test_without_tokens_callers_of_this_machine_may() -> None:
    assert answer(OPEN) == "ok"
    assert answer(OPEN, "::1", host="[::1]:8080") == "ok"
    assert answer(OPEN, "127.8.0.1", host="localhost") == "ok"
    assert answer(OPEN, host="market:8080") == "ok"


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", ""])
def test_without_tokens_nobody_else_may(peer: str) -> None:
    assert answer(OPEN, peer) == "403 forbidden"


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded", "x_real_ip"])
def test_no_header_makes_a_caller_one_of_this_machine(name: str) -> None:
    assert answer(OPEN, "192.0.2.7", **{name: "127.0.0.1"}) == "403 forbidden"
    # A proxy of this machine speaks for somebody else.
    assert answer(OPEN, **{name: "192.0.2.7"}) == "403 forbidden"
    assert answer(OPEN, **{name: "127.0.0.1"}) == "403 forbidden"


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::1", "a@b"]
)
def test_a_host_that_is_not_us_is_refused(host: str | None) -> None:
    assert answer(OPEN, host=host) == "403 forbidden"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:3000",
        "https://127.0.0.1:8080.evil.example",
        "null",
        "",
        "file://",
        "http://[",
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert answer(OPEN, origin=origin) == "403 forbidden"
    assert answer(READ, authorization="Bearer read", origin=origin) == "403 forbidden"


def test_our_own_page_and_listed_origins_may() -> None:
    assert answer(OPEN, origin="http://127.0.0.1:8080") == "ok"
    assert answer(OPEN, host="127.0.0.1", origin="http://127.0.0.1:80") == "ok"
    assert answer(LISTED, origin="https://desk.example") == "ok"
    assert answer(LISTED, origin="https://desk.example:8443") == "403 forbidden"


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_what_is_not_called_json_is_refused(kind: str | None) -> None:
    assert answer(OPEN, content_type=kind) == "403 bad_content_type"


def test_json_may_have_a_charset() -> None:
    assert answer(OPEN, content_type="Application/JSON; charset=utf-8") == "ok"


def test_with_tokens_one_is_demanded_from_everywhere() -> None:
    assert answer(READ) == "401 unauthorized"
    assert answer(READ, authorization="Bearer wrong") == "401 unauthorized"
    assert answer(READ, authorization="Bearer ") == "401 unauthorized"
    assert answer(READ, "192.0.2.7", host="desk", authorization="Bearer read") == "ok"
    assert answer(READ, x_mbx_apikey="read") == "ok"
    assert answer(READ, authorization="Basic OnJlYWQ=") == "ok"


def test_control_tokens_stand_before_the_others() -> None:
    assert answer(BOTH, authorization="Bearer steer") == "ok"
    assert answer(BOTH, authorization="Bearer read") == "403 forbidden"
    assert answer(BOTH) == "401 unauthorized"


def test_headers_that_contradict_themselves_are_refused() -> None:
    raw = [(name.encode(), value.encode()) for name, value in OWN.items()]
    with pytest.raises(ApiProblemError, match="host is there twice"):
        ControlDoor(OPEN).check("127.0.0.1", Headers(raw=[*raw, (b"host", b"evil.example")]))
