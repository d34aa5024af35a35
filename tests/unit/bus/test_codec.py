"""Messages on the bus are the contract's, byte for byte, and bad ones are one clear error."""

from decimal import Decimal

import pytest

from market_ingestor.bus import codec
from market_ingestor.errors import DecodeError
from market_ingestor.model.trade import FeedPosition, Mark, Trade, TradeBatch

BATCH = (
    b'{"v":1,"exchange":"binance","symbol":"BTCUSDT","feed":"i0-7","n":412,"source":"ws",'
    b'"received_us":1763676000123456,"prev_id":"3456789011","trades":[{"id":"3456789012",'
    b'"price":"67123.45","amount":"0.00123","side":"buy","time_us":1763676000120000}]}'
)
MARK = (
    b'{"v":1,"exchange":"binance","feed":"i0-7","received_us":5,'
    b'"symbols":{"BTCUSDT":{"n":412,"id":"3456789012"}},"end":false}'
)


def test_a_batch_survives_decoding_and_encoding() -> None:
    assert codec.encode(codec.text_batch("s", BATCH)) == BATCH


def test_decimal_batches_keep_every_digit() -> None:
    text = BATCH.replace(b"0.00123", b"0.000000000001000")
    assert str(codec.decimal_batch("s", text).trades[0].amount) == "1.000E-12"
    assert codec.decimal_batch("s", text).trades[0].price == Decimal("67123.45")


def test_simulated_batches_say_so() -> None:
    batch = TradeBatch[str](
        v=1,
        exchange="sim-okx",
        symbol="A",
        feed="f",
        n=1,
        source="ws",
        received_us=1,
        prev_id=None,
        trades=[Trade[str](id="1", price="1", amount="1", side=None, time_us=1)],
        simulated=True,
    )
    encoded = codec.encode(batch)
    assert encoded.endswith(b'"simulated":true}')
    assert b'"prev_id":null' in encoded
    assert b'"side":null' in encoded


def test_a_mark_survives_decoding_and_encoding() -> None:
    decoded = codec.mark("s", MARK)
    assert decoded == Mark(
        v=1,
        exchange="binance",
        feed="i0-7",
        received_us=5,
        symbols={"BTCUSDT": FeedPosition(n=412, id="3456789012")},
        end=False,
    )
    assert codec.encode(decoded) == MARK


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        BATCH.replace(b'"v":1', b'"v":2'),
        BATCH.replace(b'"n":412', b'"n":"x"'),
        BATCH[: BATCH.index(b'"trades"')] + b'"trades":[]}',
    ],
)
def test_what_is_not_a_batch_is_a_decode_error(payload: bytes) -> None:
    for decode in (codec.text_batch, codec.decimal_batch):
        with pytest.raises(DecodeError):
            decode("market.raw.a.B", payload)


def test_a_field_that_a_later_version_adds_is_ignored() -> None:
    """Readers of this version go on while writers of the next one are rolled out, and back."""
    later = BATCH.replace(b'"n":412', b'"n":412,"added":{"x":[1]}')
    assert codec.text_batch("s", later) == codec.text_batch("s", BATCH)
    assert codec.mark("s", MARK.replace(b'"end"', b'"added":1,"end"')) == codec.mark("s", MARK)
