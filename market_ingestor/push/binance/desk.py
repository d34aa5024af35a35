"""Follows what a client of Binance streams asks for. SHELL."""

from collections.abc import Sequence

from market_ingestor.push import messages
from market_ingestor.push.binance import calls
from market_ingestor.push.binance.calls import BadCallError, Call
from market_ingestor.push.binance.streams import (
    TRADE_FAMILIES,
    Address,
    BadStreamError,
    stream_of,
    topics,
)
from market_ingestor.push.desk import TokenCheck
from market_ingestor.push.hub import Hub
from market_ingestor.push.messages import BadRequestError, Message
from market_ingestor.push.pump import Client, Pump
from market_ingestor.push.subscriptions import Topic
from market_ingestor.push.trade_feed import TradeFeed


class BinanceDesk:
    """Follows the calls of one client.

    Args:
        check: Accepts or refuses tokens.
        trades: Is told who subscribes to trades.
        address: What the client connected to, its exchange being the one to serve.
        follows_mode: That exchange is the one meant in the present mode.
    """

    __slots__ = ("_address", "_check", "_follows_mode", "_hub", "_pump", "_trades")

    def __init__(
        self,
        hub: Hub,
        pump: Pump,
        check: TokenCheck,
        trades: TradeFeed,
        address: Address,
        *,
        follows_mode: bool,
    ) -> None:
        self._hub = hub
        self._pump = pump
        self._check = check
        self._trades = trades
        self._address = address
        self._follows_mode = follows_mode

    def begin(self, client: Client) -> None:
        """Meet a client that has just connected."""
        client.follows_mode = self._follows_mode
        self._hub.speak(client.outbox, self._address.form)
        if client.is_trusted:
            self._subscribe_address(client)

    def _subscribe_address(self, client: Client) -> None:
        self._subscribe(client, topics(self._address, self._address.streams))

    async def follow(self, client: Client, payload: bytes) -> bool:
        """Do what a message asks and answer it; a bad one is answered with an error.

        Returns:
            Whether the client may stay: it showed a token where one is needed.
        """
        try:
            answer = await self._answer(client, payload)
        except BadCallError as problem:
            answer = calls.failure(problem)
        self._reply(client, answer)
        return client.is_trusted

    def refuse(self, client: Client, problem: BadRequestError) -> None:
        """Answer with an error."""
        self._reply(client, calls.failure(BadCallError(calls.BAD_REQUEST, str(problem))))

    def _reply(self, client: Client, answer: Message) -> None:
        client.outbox.reply(answer)
        self._pump.ready(client)

    async def _answer(self, client: Client, payload: bytes) -> Message:
        token = messages.parse_token(payload)
        if token is not None:
            return self._show_token(client, token)
        call = calls.parse_call(payload)
        if not client.is_trusted:
            raise BadCallError(calls.BAD_REQUEST, "send a token first", call.id)
        try:
            return calls.result(await self._act(client, call), call.id)
        except BadStreamError as problem:
            raise BadCallError(calls.BAD_REQUEST, str(problem), call.id) from problem
        except BadRequestError as problem:
            raise BadCallError(calls.BAD_REQUEST, str(problem), call.id) from problem

    def _show_token(self, client: Client, token: messages.Token) -> Message:
        was_trusted = client.is_trusted
        if not self._check(client, token):
            raise BadCallError(calls.BAD_REQUEST, "not a valid token")
        if not was_trusted:
            self._subscribe_address(client)
        return calls.result(None, None)

    async def _act(self, client: Client, call: Call) -> list[str] | bool | None:
        match call.method:
            case "SUBSCRIBE":
                patterns = self._topics(call)
                has_trades = any(pattern[0] in TRADE_FAMILIES for pattern in patterns)
                promise = await self._trades.promise() if has_trades else None
                self._subscribe(client, patterns, promise)
                return None
            case "UNSUBSCRIBE":
                self._hub.unsubscribe(client.outbox, self._topics(call))
                self._trades.note_change()
                return None
            case "LIST_SUBSCRIPTIONS":
                return [stream_of(log.pattern) for log in client.outbox.logs]
            case "SET_PROPERTY":
                self._set_combined(client, call)
                return None
            case "GET_PROPERTY":
                self._require_combined(call)
                return self._address.form.is_combined
            case _:
                raise BadCallError(calls.BAD_REQUEST, "Invalid request: unknown method", call.id)

    def _topics(self, call: Call) -> list[Topic]:
        streams = call.params or []
        if not all(isinstance(each, str) for each in streams):
            raise BadStreamError("Invalid request: params are names of streams")
        return topics(self._address, streams)

    def _subscribe(
        self, client: Client, patterns: Sequence[Topic], promise: int | None = None
    ) -> None:
        self._hub.check_room(client.outbox, patterns)
        self._hub.subscribe(client.outbox, patterns)
        self._trades.note_change(promise)

    def _set_combined(self, client: Client, call: Call) -> None:
        self._require_combined(call)
        value = call.params[1] if call.params is not None and len(call.params) > 1 else None
        if not isinstance(value, bool):
            raise BadCallError(calls.WRONG_TYPE, "Invalid value type: expected Boolean", call.id)
        form = self._address.form._replace(is_combined=value)
        self._address = self._address._replace(form=form)
        self._hub.speak(client.outbox, form)

    def _require_combined(self, call: Call) -> None:
        if not call.params or call.params[0] != "combined":
            raise BadCallError(calls.UNKNOWN_PROPERTY, "Invalid property name", call.id)
