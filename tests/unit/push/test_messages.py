"""What clients may say, and the shape of what they are told."""

import json

import pytest

from market_ingestor.push import messages
from market_ingestor.push.messages import BadRequestError, Subscribe, Token, parse_request


def test_subscribe_is_read_with_all_its_options() -> None:
    request = parse_request(
        b'{"action":"subscribe","topics":["kline.a.B.1m"],"id":1,"snapshot":5,"batch_ms":100}'
    )
    assert request == Subscribe(topics=["kline.a.B.1m"], id=1, snapshot=5, batch_ms=100)


def test_token_is_a_message_of_its_own() -> None:
    assert parse_request(b'{"token":"T"}') == Token(token="T")


@pytest.mark.parametrize(
    ("payload", "request_id"),
    [
        (b"", None),
        (b"null", None),
        (b'{"action":"subscribe","topics":["a"],"more":1,"id":"x"}', "x"),
        (b'{"action":"subscribe","topics":[1],"id":2}', 2),
        (b'{"action":"subscribe","id":2}', 2),
        (b'{"action":"ping","token":"T","id":3}', 3),
        (b'{"id":{"deep":1},"action":"ping"}', None),
        (b'{"token":"' + b"x" * 5_000 + b'"}', None),
        (b"[" * 60_000, None),
        (b"\xff\xfe", None),
    ],
)
def test_what_is_not_understood_is_an_error_with_the_id(
    payload: bytes, request_id: int | str | None
) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_request(payload)
    assert refused.value.code == "bad_message"
    assert refused.value.request_id == request_id


def test_size_is_checked_before_anything_is_parsed() -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_request(b" " * (messages.MESSAGE_BYTES_MAX + 1))
    assert refused.value.code == "message_too_big"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frame_heads_at_the_bounds_of_their_forms(size: int, head: bytes) -> None:
    assert messages.frame_head(size) == head


def test_payload_is_passed_on_byte_for_byte_on_one_line() -> None:
    text = messages.data_text("kline", "kline.a.B.1m", "e-1", b'{"price":"1.10",\n "x":1e3}')
    assert text == (
        b'{"type":"kline","topic":"kline.a.B.1m","position":"e-1","data":{"price":"1.10", "x":1e3}}'
    )
    assert b"position" not in messages.data_text("kline", "kline.a.B.1m", None, b"{}")


def test_missed_says_how_many_and_where_to_resume() -> None:
    assert json.loads(messages.missed("closed.*.*.1m", 3, "e-7").text) == {
        "type": "missed",
        "topic": "closed.*.*.1m",
        "count": 3,
        "position": "e-7",
    }
