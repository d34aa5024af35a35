"""Dead letters of the klines role: what was read and could not be used. SHELL."""

import hashlib
from typing import Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.ack_window import Outcome, PubAck
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import Delivery
from market_ingestor.errors import excerpt

_log = structlog.get_logger(__name__)

ROLE: Final = "klines"
LOG_EVERY: Final = 1_000  # one line for the first, then one per so many


class DeadLetters:
    """Publishes dead letters without waiting for them.

    The message itself stays in its stream: a letter lost with the process is written again by
    the replay.

    Attributes:
        count: Letters written so far.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.count = 0

    async def bury(self, message: Delivery, reason: str) -> None:
        """Publish one dead letter; it may be written twice, under the same id."""
        if self.count % LOG_EVERY == 0:
            _log.warning("message_buried", subject=message.subject, reason=excerpt(reason))
        self.count += 1
        digest = hashlib.sha256(message.payload).hexdigest()
        await self._publisher.send(
            subjects.dead(ROLE),
            message.payload[: codec.DEAD_LETTER_BYTES_MAX],
            f"{ROLE}.{message.sequence}.{digest}",
            headers={
                "Market-Error": _header(reason),
                "Market-Role": ROLE,
                "Market-Subject": _header(message.subject),
                "Market-Sequence": str(message.sequence),
                "Market-Length": str(len(message.payload)),
                "Market-Hash": f"sha256:{digest}",
            },
            on_done=_count,
        )


def _count(outcome: Outcome) -> None:
    if isinstance(outcome, PubAck):
        metrics.dead_letters_total.labels(role=ROLE, reason="undecodable").inc()


def _header(text: str) -> str:
    """Return ``text`` as one line of ASCII, which is all a header can carry."""
    return " ".join(excerpt(text).encode("ascii", "backslashreplace").decode().split())
