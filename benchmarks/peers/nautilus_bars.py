"""nautilus_trader's time bars over trade batches, one period, JSON decoding included."""

from typing import Any

import msgspec
import protocol
from nautilus_trader.common.component import TestClock
from nautilus_trader.data.aggregation import TimeBarAggregator
from nautilus_trader.model.data import BarType, TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Currency, Price, Quantity

CENT, LOT = Price.from_str("0.00000001"), Quantity.from_str("0.00000001")


class _Trade(msgspec.Struct, gc=False):
    id: str
    price: str
    amount: str
    side: str
    time_us: int


class _Batch(msgspec.Struct, gc=False):
    symbol: str
    trades: list[_Trade]


class Symbols:
    """One aggregator per symbol, made when it is new, on one clock."""

    def __init__(self, start_us: int) -> None:
        self._known: dict[str, tuple[InstrumentId, TimeBarAggregator]] = {}
        self.clock = TestClock()
        self.clock.set_time(start_us * 1_000)

    def get(self, symbol: str) -> tuple[InstrumentId, TimeBarAggregator]:
        """Return the aggregator of a symbol."""
        found = self._known.get(symbol)
        if found is None:
            name = InstrumentId(Symbol(symbol), Venue("VENUE"))
            instrument = CurrencyPair(
                instrument_id=name, raw_symbol=Symbol(symbol),
                base_currency=Currency.from_str("BTC"), quote_currency=Currency.from_str("USDT"),
                price_precision=8, size_precision=8, price_increment=CENT, size_increment=LOT,
                ts_event=0, ts_init=0,
            )  # fmt: skip
            kind = BarType.from_str(f"{name}-1-MINUTE-LAST-INTERNAL")
            found = name, TimeBarAggregator(instrument, kind, lambda _: None, self.clock)
            self._known[symbol] = found
        return found


def main() -> None:
    """Serve rounds."""
    told: Any = protocol.data()
    payloads = [text.encode() for text in told["payloads"]]
    decode = msgspec.json.Decoder(_Batch).decode

    def run() -> None:
        symbols = Symbols(told["start_us"])
        advance = symbols.clock.advance_time
        newest = 0
        for payload in payloads:
            batch = decode(payload)
            name, bars = symbols.get(batch.symbol)
            for each in batch.trades:
                time_ns = each.time_us * 1_000
                side = AggressorSide.BUYER if each.side == "buy" else AggressorSide.SELLER
                price, amount = Price.from_str(each.price), Quantity.from_str(each.amount)
                tick = TradeTick(name, price, amount, side, TradeId(each.id), time_ns, time_ns)
                if time_ns > newest:
                    newest = time_ns
                    for event in advance(time_ns):
                        event.handle()
                bars.handle_trade_tick(tick)

    protocol.serve(run)


if __name__ == "__main__":
    main()
