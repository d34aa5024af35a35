"""The endpoints of control: mode and subscriptions. SHELL."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from market_ingestor.api import schema
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.control import Control
from market_ingestor.api.handlers import json_response, params_of
from market_ingestor.api.params import exchange_name, symbol_name
from market_ingestor.model.control import ControlState, Member, Mode, carried
from market_ingestor.model.exchange import is_simulated


class ControlHandlers:
    """One method per endpoint."""

    def __init__(self, control: Control, catalog: Catalog) -> None:
        self._control = control
        self._catalog = catalog

    async def mode(self, request: Request) -> Response:
        params_of(request)
        return await self._mode(self._control.state)

    async def switch_to_test(self, request: Request) -> Response:
        return await self._switch(request, "test")

    async def switch_to_live(self, request: Request) -> Response:
        return await self._switch(request, "live")

    async def _switch(self, request: Request, mode: Mode) -> Response:
        params_of(request)
        return await self._mode(await self._control.switch(mode))

    async def _mode(self, state: ControlState | None) -> Response:
        members = await self._control.members()
        answer = schema.ModeAnswer(
            mode=(state.mode if state else None) or self._control.mode,
            revision=state.revision if state else 0,
            members=[
                schema.MemberItem(
                    member=name,
                    shard=each.shard,
                    mode=each.mode,
                    revision=each.revision,
                    applied=each.problem is None and (state is None or each.has_applied(state)),
                    problem=each.problem,
                )
                for name, each in sorted(members.items())
            ],
        )
        return json_response(schema.encode(answer))

    async def subscriptions(self, request: Request) -> Response:
        params_of(request)
        items = _subscriptions(await self._control.members(), self._control.state)
        page = schema.SubscriptionList(data=items, pagination=schema.Pagination(next_cursor=None))
        return json_response(schema.success(page))

    async def subscribe(self, request: Request) -> Response:
        exchange, symbol = await self._instrument(request)
        state = await self._control.subscribe(exchange, symbol)
        return await self._changed(exchange, symbol, state, is_subscribed=True)

    async def unsubscribe(self, request: Request) -> Response:
        exchange, symbol = await self._instrument(request)
        state = await self._control.unsubscribe(exchange, symbol)
        return await self._changed(exchange, symbol, state, is_subscribed=False)

    async def _instrument(self, request: Request) -> tuple[str, str]:
        params_of(request)
        exchange = self._catalog.meant(exchange_name(request.path_params["exchange"]))
        spelling = request.path_params["symbol"]
        symbol_name(spelling)
        return exchange, await self._control.symbol_of(exchange, spelling)

    async def _changed(
        self, exchange: str, symbol: str, state: ControlState, *, is_subscribed: bool
    ) -> Response:
        living = self._control.living or {}
        feeds = {(name, each): feed for name, each, feed, _ in carried(living)}
        change = schema.SubscriptionChange(
            exchange=exchange,
            symbol=symbol,
            subscribed=is_subscribed,
            feed=feeds.get((exchange, symbol)),
            revision=state.revision,
        )
        return json_response(schema.success(change))


def _subscriptions(
    members: Mapping[str, Member], state: ControlState | None
) -> list[schema.SubscriptionItem]:
    """Return what is carried, and what was added and is not."""
    added = {
        (exchange, symbol)
        for exchange, symbols in (state.added if state else {}).items()
        for symbol in symbols
    }
    found: dict[tuple[str, str], tuple[str | None, str | None]] = dict.fromkeys(added, (None, None))
    for exchange, symbol, feed, member in carried(members):
        found[exchange, symbol] = (feed, member.name)
    return [
        schema.SubscriptionItem(
            exchange=exchange,
            symbol=symbol,
            feed=feed,
            member=member,
            added=(exchange, symbol) in added,
            simulated=is_simulated(exchange),
        )
        for (exchange, symbol), (feed, member) in sorted(found.items())
    ]
