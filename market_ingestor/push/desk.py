"""Follows what clients ask for. SHELL.

The same for every transport: a WebSocket client's requests and a TCP client's lines end here.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, assert_never

from market_ingestor.access import is_token
from market_ingestor.push import messages
from market_ingestor.push.catch_up import CatchUp
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import (
    BadRequestError,
    ListTopics,
    Ping,
    Request,
    Subscribe,
    Token,
    Unsubscribe,
)
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.subscriptions import CANDLE_FAMILIES, TRADE, Topic, parse_topic, text_of
from market_ingestor.push.trade_feed import TradeFeed

REQUESTS_PER_S: Final = 20.0  # sustained, per client; a person needs one, a program a few
REQUESTS_BURST: Final = 200.0  # a program that subscribes one topic at a time when it starts
REQUEST_BYTES: Final = 512  # of a message that counts as one request; longer ones as several
REQUEST_WILDCARDS: Final = 3  # in a message that count as a further request


TokenCheck: TypeAlias = Callable[[Client, Token], bool]  # whether it opens, and lets in


class RateLimit:
    """A bucket of requests that fills at a steady rate."""

    def __init__(self, now: float) -> None:
        self._left = REQUESTS_BURST
        self._at = now

    def is_over(self, now: float, request: bytes = b"") -> bool:
        """Count a request, by what it may cost; return whether it is one too many."""
        self._left = min(self._left + (now - self._at) * REQUESTS_PER_S, REQUESTS_BURST)
        self._at = now
        cost = 1 + len(request) // REQUEST_BYTES + request.count(b"*") // REQUEST_WILDCARDS
        if self._left < cost:
            return True
        self._left -= cost
        return False


class Desk:
    """Follows requests.

    Args:
        tokens: Any of them is accepted from a client that has to show one.
        trades: Is told who subscribes to trades.
    """

    def __init__(
        self,
        hub: Hub,
        pump: Pump,
        catch_up: CatchUp,
        tokens: Sequence[str],
        trades: TradeFeed,
    ) -> None:
        self._hub = hub
        self._pump = pump
        self._catch_up = catch_up
        self._tokens = tokens
        self._trades = trades

    def begin(self, client: Client) -> None:
        """Meet a client that has just connected: it says by itself what it wants."""

    async def follow(self, client: Client, payload: bytes) -> bool:
        """Do what a message asks and answer it; a bad one is answered with an error.

        Returns when what was asked for was handed to the client's outbox: a resume takes its
        time, and the client's next request waits for it.

        Returns:
            Whether the client may stay: it showed a token where one is needed.

        Raises:
            ClientGoneError: The client went away meanwhile.
        """
        try:
            await self._do(client, messages.parse_request(payload))
        except BadRequestError as problem:
            self.refuse(client, problem)
        return client.is_trusted

    def refuse(self, client: Client, problem: BadRequestError) -> None:
        """Answer with an error."""
        self._reply(client, messages.error(problem.code, str(problem), problem.request_id))

    def _reply(self, client: Client, answer: messages.Message) -> None:
        client.outbox.reply(answer)
        self._pump.ready(client)

    async def _do(self, client: Client, request: Request) -> None:
        if isinstance(request, Token):
            self.show_token(client, request)
            return
        if not client.is_trusted:
            raise BadRequestError("unauthorized", "send a token first", request.id)
        try:
            await self._act(client, request)
        except BadRequestError as problem:
            raise BadRequestError(problem.code, str(problem), request.id) from problem

    async def _act(
        self, client: Client, request: Subscribe | Unsubscribe | ListTopics | Ping
    ) -> None:
        match request:
            case Subscribe():
                await self._subscribe(client, request)
            case Unsubscribe():
                ended = self._hub.unsubscribe(client.outbox, _parsed(request.topics))
                self._trades.note_change()
                texts = [text_of(pattern) for pattern in ended]
                self._reply(client, messages.unsubscribed(texts, request.id))
            case ListTopics():
                self._reply(client, messages.subscriptions(client.outbox.topics, request.id))
            case Ping():
                self._reply(client, messages.pong(request.id))
            case _:
                assert_never(request)

    def show_token(self, client: Client, request: Token) -> None:
        """Accept or refuse a client's token.

        Raises:
            BadRequestError: It is none of ours.
        """
        if not self.accepts(client, request):
            raise BadRequestError("unauthorized", "not a valid token")
        self._reply(client, messages.authorized())

    def accepts(self, client: Client, request: Token) -> bool:
        """Trust a client, or no longer, by the token it shows; return whether it is trusted."""
        client.is_trusted = not self._tokens or is_token(request.token, self._tokens)
        return client.is_trusted

    async def _subscribe(self, client: Client, request: Subscribe) -> None:
        patterns = _parsed(request.topics)
        self._hub.check_room(client.outbox, patterns)
        if request.snapshot is not None and request.since is not None:
            raise BadRequestError("bad_message", "either snapshot or since, not both")
        has_candles = any(pattern[0] in CANDLE_FAMILIES for pattern in patterns)
        sequence = self._hub.ring.last_sequence
        if request.since is not None and has_candles:
            sequence = await self._catch_up.check(request.since)
        trades = [pattern for pattern in patterns if pattern[0] == TRADE]
        others = [pattern for pattern in patterns if pattern[0] != TRADE]
        promise = await self._trades.promise() if trades else None
        if request.batch_ms is not None:
            client.batch_s = request.batch_ms / 1_000
        texts = [text_of(pattern) for pattern in patterns]
        position = self._hub.ring.position(sequence)
        self._reply(client, messages.subscribed(texts, position, request.id))
        if trades:  # they wait for no history
            self._hub.subscribe(client.outbox, trades)
            self._trades.note_change(promise)
            self._pump.ready(client)
        if request.since is not None and has_candles:
            await self._catch_up.since(client, others, sequence)
        elif request.snapshot is not None and has_candles:
            await self._catch_up.snapshot(client, others, request.snapshot)
        else:
            self._hub.subscribe(client.outbox, others)
            self._pump.ready(client)

    def replace(self, client: Client, topics: Sequence[str]) -> None:
        """Replace all of a client's subscriptions.

        Raises:
            BadRequestError: A topic is not valid; nothing was changed.
        """
        patterns = _parsed(topics)
        wanted = frozenset(patterns)
        old = [log.pattern for log in client.outbox.logs if log.pattern not in wanted]
        self._hub.check_room(client.outbox, patterns, instead_of=old)
        self._hub.unsubscribe(client.outbox, old)
        self._hub.subscribe(client.outbox, patterns)
        self._trades.note_change()
        self._pump.ready(client)


def _parsed(topics: Sequence[str]) -> list[Topic]:
    return list(dict.fromkeys(parse_topic(text) for text in topics))
