"""Dead letters of the saver: what cannot be stored, where it can be looked at. SHELL.

Owns the form of a dead letter (contract, section 1). A dead trade also leaves a hole behind, which
is written to ``market_gaps`` and told on the bus, so that candles over it follow the table.
"""

import hashlib
from typing import Final, TypeAlias

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import DecodeError, excerpt
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.fitness import TIME_US_MAX, is_trade_id
from market_ingestor.model.trade import WIRE_VERSION, TextTrade, TradeBatch
from market_ingestor.storage.batch import Loss
from market_ingestor.storage.rows import GAP_ID_CHARS_MAX, Row

ROLE: Final = "save"

DeliveryLoss: TypeAlias = Loss[Delivery]


class DeadLetters:
    """Publishes dead letters and waits until JetStream has them."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def bury(self, loss: DeliveryLoss) -> None:
        """Publish one dead letter; may be repeated.

        The payload of a lost trade is its batch with that trade alone.
        """
        message = loss.message
        payload = message.payload if loss.trade is None else _alone(message, loss.trade)
        digest = hashlib.sha256(payload).hexdigest()
        await self._publisher.publish(
            subjects.dead(ROLE),
            payload[: codec.DEAD_LETTER_BYTES_MAX],
            f"{ROLE}.{message.sequence}.{digest}",
            headers={
                "Market-Error": _header(loss.reason),
                "Market-Role": ROLE,
                "Market-Subject": message.subject,
                "Market-Sequence": str(message.sequence),
                "Market-Length": str(len(payload)),
                "Market-Hash": f"sha256:{digest}",
            },
        )
        reason = "undecodable" if loss.trade is None else "refused"
        metrics.dead_letters_total.labels(role=ROLE, reason=reason).inc()
        if loss.trade is not None:
            metrics.trades_dead_lettered_total.inc()

    async def announce(self, event: MarketEvent, sequence: int) -> None:
        """Tell the bus of the hole a dead trade left."""
        await self._publisher.publish(
            subjects.event(event.exchange, event.symbol),
            codec.encode(event),
            f"{ROLE}.{sequence}.{event.after_id}.{event.before_id}",
        )


def row_loss(message: Delivery, row: Row, reason: str) -> DeliveryLoss:
    """Return the loss of a row: of its trade, or of the whole message when that is one row. Pure.

    Args:
        message: What the row came from.
    """
    if row.fact is None:
        return Loss(message=message, reason=reason)
    trade_id, fact = row.key[2], row.fact
    for each in codec.text_batch(message.subject, message.payload).trades:
        if each.id == trade_id and (each.price, each.amount, each.time_us) == fact:
            return Loss(message=message, reason=reason, trade=each)
    raise AssertionError(f"trade {trade_id} is not in the message its row came from")


def hole(loss: DeliveryLoss, *, now_us: int) -> MarketEvent | None:
    """Return the hole a lost trade leaves, None when the loss is a whole message. Pure."""
    trade = loss.trade
    if trade is None:
        return None
    address = subjects.parse_raw(loss.message.subject)
    if address.symbol is None:
        return None
    after_id = before_id = trade.id[:GAP_ID_CHARS_MAX].replace("\0", "")
    if is_trade_id(trade.id):
        after_id, before_id = str(max(int(trade.id) - 1, 0)), str(int(trade.id) + 1)
    time_ms = trade.time_us // 1000 if 0 <= trade.time_us < TIME_US_MAX else None
    return MarketEvent(
        v=WIRE_VERSION,
        exchange=address.exchange,
        symbol=address.symbol,
        type="gap_unfillable",
        time_us=now_us,
        after_id=after_id,
        before_id=before_id,
        missing=1,
        from_time=time_ms,
        to_time=time_ms,
        detail=f"dead letter: {excerpt(loss.reason)}",
        simulated=is_simulated(address.exchange),
    )


def _alone(message: Delivery, trade: TextTrade) -> bytes:
    try:
        batch = codec.text_batch(message.subject, message.payload)
    except DecodeError:
        return message.payload
    return codec.encode(
        TradeBatch(
            v=batch.v,
            exchange=batch.exchange,
            symbol=batch.symbol,
            feed=batch.feed,
            n=batch.n,
            source=batch.source,
            received_us=batch.received_us,
            prev_id=batch.prev_id,
            trades=[trade],
            simulated=batch.simulated,
        )
    )


def _header(text: str) -> str:
    """Return ``text`` as one line of ASCII, which is all a header can carry."""
    return " ".join(excerpt(text).encode("ascii", "backslashreplace").decode().split())
