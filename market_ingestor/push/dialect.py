"""The words of a client's protocol: how candles, values and losses are written. Pure."""

from typing import Protocol

from market_ingestor.push import messages
from market_ingestor.push.latest import Latest
from market_ingestor.push.messages import Message
from market_ingestor.push.ring import Candle, Ring
from market_ingestor.push.subscriptions import Key


class Dialect(Protocol):
    """Gives messages; whoever asks for the same one gets the same object.

    Attributes:
        tells_state: Who begins to read gets what is open now at once.
    """

    tells_state: bool

    def candle(self, family: str, candle: Candle) -> Message:
        """Return the message of a closed candle for a topic of ``family``."""

    def value(self, key: Key) -> Message | None:
        """Return the message with the newest value of a key, None when it is gone."""

    def living(self, keys: dict[Key, None]) -> dict[Key, None]:
        """Return ``keys`` without, when they are many, those that are gone."""

    def missed(self, topic: str, count: int, sequence: int | None) -> Message | None:
        """Return the notice of messages lost behind ``sequence``, None where there is no word."""


class Native:
    """The native protocol (contract, section 5)."""

    tells_state = True
    _SLACK = 64  # keys of windows that closed meanwhile, kept beyond twice the living ones

    def __init__(self, latest: Latest, ring: Ring) -> None:
        self._latest = latest
        self._ring = ring

    def candle(self, family: str, candle: Candle) -> Message:
        """Return the message of a closed candle."""
        return candle.message(family)

    def value(self, key: Key) -> Message | None:
        """Return the message with the newest value of a key."""
        return self._latest.message(key)

    def living(self, keys: dict[Key, None]) -> dict[Key, None]:
        """Return the keys that still have a value."""
        if len(keys) <= 2 * len(self._latest) + self._SLACK:
            return keys
        return {key: None for key in keys if key in self._latest}

    def missed(self, topic: str, count: int, sequence: int | None) -> Message | None:
        """Return the notice of lost messages."""
        position = self._ring.position(sequence) if sequence is not None else None
        return messages.missed(topic, count, position)
