"""Events of Binance streams in one form, made once for all clients that read it. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from market_ingestor.model.kline import Kline
from market_ingestor.model.stats import Stats
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.push.binance import events
from market_ingestor.push.binance.board import Board, Shown
from market_ingestor.push.binance.streams import (
    KLINE_FAMILIES,
    MINI_TICKER,
    TRADES,
    VERSIONS,
    Form,
    stream_of,
)
from market_ingestor.push.latest import Value
from market_ingestor.push.messages import Message, message
from market_ingestor.push.ring import Candle
from market_ingestor.push.subscriptions import Key, Topic

CANDLES_MAX: Final = 1_024  # messages of closed candles kept; for slower readers they are made anew

_encoder: Final = msgspec.json.Encoder()
_kline: Final = msgspec.json.Decoder(Kline)
_stats: Final = msgspec.json.Decoder(Stats)


class BinanceDialect:
    """Binance's words in one form."""

    tells_state = False  # there is no snapshot: what is open is told when it changes

    def __init__(self, form: Form, board: Board) -> None:
        self._form = form
        self._board = board
        self._candles: dict[tuple[str, Candle], Message] = {}

    def candle(self, family: str, candle: Candle) -> Message:
        """Return the event of a closed candle."""
        key = (family, candle)
        made = self._candles.get(key)
        if made is None:
            kline = _kline.decode(candle.payload)
            event = events.kline_event(kline, candle.stored_us, is_micro=self._form.is_micro)
            if family == VERSIONS:
                event["revision"] = kline.revision
            made = self._candles[key] = message(self._text((family, *candle.key), event))
            if len(self._candles) > CANDLES_MAX:
                del self._candles[next(iter(self._candles))]
        return made

    def value(self, key: Key) -> Message | None:
        """Return the event with what a stream shows."""
        assert isinstance(key, tuple)  # noqa: S101 - keys of this dialect are topics
        shown = self._board.shown(key)
        if shown is None:
            return None
        if self._form not in shown.messages:
            shown.messages[self._form] = self._value(key, shown)
        return shown.messages[self._form]

    def _value(self, topic: Topic, shown: Shown) -> Message | None:
        try:
            event = self._event(topic[0], shown.value)
        except msgspec.MsgspecError:
            return None  # statistics of another version: nothing to be made of them
        return message(self._text(topic, event))

    def _event(self, family: str, value: Value) -> dict[str, Any]:
        is_micro = self._form.is_micro
        if family in KLINE_FAMILIES:
            kline = _kline.decode(value.payload)
            return events.kline_event(kline, value.received_us, is_micro=is_micro)
        stats = _stats.decode(value.payload)
        if family == MINI_TICKER:
            return events.mini_ticker_event(stats, is_micro=is_micro)
        return events.ticker_event(stats, is_micro=is_micro)

    def living(self, keys: dict[Key, None]) -> dict[Key, None]:
        """Return all of them: there is at most one per stream subscribed."""
        return keys

    def missed(self, topic: str, count: int, sequence: int | None) -> Message | None:  # noqa: ARG002 - no word for it
        """Return None: there is no word for it."""
        return None

    def trades(self, topic: Topic, batch: TradeBatch[str], trades: Sequence[TextTrade]) -> Message:
        """Return the events of trades, a frame each, to be written together."""
        event: Callable[..., dict[str, Any]] = (
            events.trade_event if topic[0] == TRADES else events.aggregate_trade_event
        )
        frames: list[bytes] = []
        for trade in trades:
            made = message(self._text(topic, event(batch, trade, is_micro=self._form.is_micro)))
            frames += (made.head, made.text)
        return Message(text=b"".join(frames), head=b"", count=len(trades))

    def _text(self, topic: Topic, event: dict[str, Any]) -> bytes:
        text = _encoder.encode(event)
        if self._form.is_combined:
            return f'{{"stream":"{stream_of(topic)}","data":'.encode() + text + b"}"
        return text
