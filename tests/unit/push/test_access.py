"""Tokens, origins and addresses."""

import pytest

from market_ingestor.access import (
    client_address,
    is_loopback,
    is_origin_allowed,
    is_token,
    presented_token,
)
from market_ingestor.push.door import WAITING_MAX, Door


def test_any_of_the_tokens_opens_and_no_other() -> None:
    assert is_token("b", ["a", "b"])
    assert not is_token("", ["a", "b"])
    assert not is_token("a", [])
    assert not is_token("\udcff", ["a"])


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        ({"Authorization": "Bearer T"}, "T"),
        ({"Authorization": "bearer  T "}, "T"),
        ({"Authorization": "Basic OlQ="}, "T"),
        ({"Authorization": "Basic dXNlcjpUOlQ="}, "T:T"),
        ({"Authorization": "Basic ???"}, ""),
        ({"Authorization": "Digest x"}, ""),
        ({"Authorization": "Bearer " + "x" * 5_000}, ""),
        ({"X-MBX-APIKEY": "T"}, "T"),
    ],
)
def test_token_is_found_where_clients_put_it(headers: dict[str, str], token: str | None) -> None:
    assert presented_token(headers) == token


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        (None, None, (), True),
        ("http://a.example:8080", "a.example:8081", (), True),
        ("http://[::1]:8080", "[::1]:8081", (), True),
        ("http://b.example", "a.example", (), False),
        ("null", "a.example", (), False),
        ("http://a.example", None, (), False),
        ("http://[", "a.example", (), False),
        ("https://b.example", "a.example", ("https://b.example",), True),
        ("http://a.example", "a.example", ("https://b.example",), False),
    ],
)
def test_pages_may_come_from_the_same_host_or_the_list(
    origin: str | None, host: str | None, allowed: tuple[str, ...], expected: bool
) -> None:
    assert is_origin_allowed(origin, host, allowed) is expected


def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    assert client_address("9.9.9.9", "1.1.1.1", []) == "9.9.9.9"
    assert client_address("9.9.9.9", "1.1.1.1, 2.2.2.2", ["9.9.9.9"]) == "2.2.2.2"
    assert client_address("9.9.9.9", "1.1.1.1, 8.8.8.8", ["9.9.9.9", "8.8.8.8"]) == "1.1.1.1"
    assert client_address("9.9.9.9", None, ["9.9.9.9"]) == "9.9.9.9"


def test_loopback_is_only_this_machine() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("localhost.example")


def test_door_hears_a_little_more_than_it_lets_in() -> None:
    door = Door(5, per_address_max=2, proxies=("10.0.0.9",))
    assert [door.knock("10.0.0.1") for _ in range(5)] == [True] * 4 + [False]
    assert all(door.knock("10.0.0.9") for _ in range(WAITING_MAX))
    assert door.knock("127.0.0.1")
    assert not door.knock("127.0.0.1"), "there is room for no more at all"
    door.go("10.0.0.1")
    assert door.knock("127.0.0.1")
    assert all(door.enter("10.0.0.9") for _ in range(5))
    assert not door.enter("10.0.0.9")


def test_loopback_is_exempt_unless_it_is_not() -> None:
    door = Door(9, per_address_max=1, exempts_loopback=False)
    assert door.enter("127.0.0.1")
    assert not door.enter("127.0.0.1")


def test_door_counts_in_all_and_by_address() -> None:
    door = Door(3, per_address_max=1)
    assert door.enter("10.0.0.1")
    assert not door.enter("10.0.0.1")
    assert door.enter("127.0.0.1")
    assert door.enter("127.0.0.1")
    assert not door.enter("10.0.0.2")
    door.leave("10.0.0.1")
    assert door.enter("10.0.0.1")
    assert door.clients == 3
