"""Loads the goldens, and builds trade frames of every venue around given values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from market_ingestor.connectors.registry import VENUES
from market_ingestor.connectors.tcp import TcpFeed
from market_ingestor.connectors.venue import Event, Gap, RestResponse, Venue

FOLDER = Path(__file__).parent
SUBJECTS: Mapping[str, Venue] = {**VENUES, "tcp": TcpFeed()}  # all that keep the protocol


class Response(msgspec.Struct, frozen=True):
    """A REST answer whose body stands in the file as JSON."""

    status: int
    headers: dict[str, str]
    body: msgspec.Raw

    def received(self) -> RestResponse:
        return RestResponse(status=self.status, headers=self.headers, body=bytes(self.body))


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file; see README.md beside it."""

    source: str
    state: str
    note: str = ""
    frame: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    events: list[dict[str, Any]] | None = None
    gap: Gap | None = None
    response: Response | None = None
    first: dict[str, Any] | None = None
    page: dict[str, Any] | None = None
    instruments: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None

    def payload(self) -> bytes:
        """Return the frame as it comes from the socket."""
        return self.text.encode() if self.text is not None else bytes(self.frame)


_GOLDENS = msgspec.json.Decoder(Golden)


def load() -> dict[str, Golden]:
    """Return every golden under ``venue/name``."""
    return {
        f"{path.parent.name}/{path.stem}": _GOLDENS.decode(path.read_bytes())
        for path in sorted(FOLDER.glob("*/*.json"))
    }


def told(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return events in the form the goldens have them."""
    named = [{"event": type(event).__name__, **msgspec.to_builtins(event)} for event in events]
    return msgspec.json.decode(msgspec.json.encode(named), type=list[dict[str, Any]])


# One row per venue; %(price)s and %(amount)s stand for the JSON of a value, ``"1.5"`` or ``1.5``.
_ROWS = {
    "binance": '{"e":"trade","E":1795132800127,"s":"BTCUSDT","t":%(id)s,"p":%(price)s,'
    '"q":%(amount)s,"T":%(time_ms)s,"m":true,"M":true}',
    "okx": '{"instId":"BTC-USDT","tradeId":"%(id)s","px":%(price)s,"sz":%(amount)s,'
    '"side":"sell","source":"0","ts":"%(time_ms)s"}',
    "bybit": '{"T":%(time_ms)s,"s":"BTCUSDT","S":"Sell","v":%(amount)s,"p":%(price)s,'
    '"i":"%(id)s","BT":false,"RPI":false,"seq":98765432101}',
    "coinbase": '{"type":"match","trade_id":%(id)s,"side":"buy","size":%(amount)s,'
    '"price":%(price)s,"product_id":"BTC-USD","sequence":90012345689,"time":"%(rfc3339)s"}',
    "kraken": '{"symbol":"BTC/USD","side":"sell","price":%(price)s,"qty":%(amount)s,'
    '"ord_type":"market","trade_id":%(id)s,"timestamp":"%(rfc3339)s"}',
    "finnhub": '{"c":["1"],"p":%(price)s,"s":"AAPL","t":%(time_ms)s,"v":%(amount)s}',
    "tcp": '{"symbol":"BTCUSDT","price":%(price)s,"timestamp":%(time_ms)s,"amount":%(amount)s}',
}
_ENVELOPES = {
    "binance": '{"stream":"btcusdt@trade","data":%s}',
    "okx": '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[%s]}',
    "bybit": '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1795132800130,"data":[%s]}',
    "coinbase": "%s",
    "kraken": '{"channel":"trade","type":"update","data":[%s]}',
    "finnhub": '{"data":[%s],"type":"trade"}',
    "tcp": "%s",
}
SYMBOLS = {
    "binance": "BTCUSDT",
    "okx": "BTC-USDT",
    "bybit": "BTCUSDT",
    "coinbase": "BTC-USD",
    "kraken": "BTC/USD",
    "finnhub": "AAPL",
    "tcp": "BTCUSDT",
}
NUMBERS_ARE_JSON = frozenset({"kraken", "finnhub", "tcp"})
SEVERAL_ROWS = ("okx", "bybit", "kraken")  # whose frames may carry more than one trade


def trade_row(
    venue: str,
    *,
    price: str = "91234.5",
    amount: str = "0.01",
    trade_id: str = "812345678",
    time_ms: str = "1795132800125",
    rfc3339: str = "2026-11-20T00:00:00.125Z",
) -> str:
    """Return a trade as its venue writes it, the taker selling."""
    quoted = "%s" if venue in NUMBERS_ARE_JSON else '"%s"'
    return _ROWS[venue] % {
        "id": trade_id,
        "price": quoted % price,
        "amount": quoted % amount,
        "time_ms": time_ms,
        "rfc3339": rfc3339,
    }


def trade_frame(venue: str, *rows: str) -> bytes:
    """Return a frame with these rows; one only from venues that send one."""
    return (_ENVELOPES[venue] % ",".join(rows)).encode()
