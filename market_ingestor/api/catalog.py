"""Which instruments there are: those stored and those seen on the bus. SHELL.

The list of the database is kept for a few seconds, so that a wrong symbol costs no query each.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

from market_ingestor.api.errors import unknown_symbol
from market_ingestor.api.memory import Memory
from market_ingestor.api.params import EPOCH, symbol_name
from market_ingestor.api.ports import ReadStore
from market_ingestor.errors import StoreUnavailableError
from market_ingestor.model.exchange import is_simulated, simulated_name
from market_ingestor.model.listing import Listing
from market_ingestor.model.stored import StoredSymbol
from market_ingestor.model.trade import WIRE_VERSION

KEEP_S: Final = 5.0


class Catalog:
    """Knows instruments.

    Args:
        is_test_mode: Whether unnamed exchanges mean the simulated ones.
        configured: Exchanges that are known though nothing of them was heard yet.
    """

    def __init__(
        self,
        store: ReadStore,
        memory: Memory,
        is_test_mode: Callable[[], bool],
        configured: Collection[str] = (),
    ) -> None:
        self._store = store
        self._memory = memory
        self._is_test_mode = is_test_mode
        self._configured = frozenset(configured)
        self._stored: Sequence[StoredSymbol] = ()
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def stored(self) -> Sequence[StoredSymbol]:
        """Return the instruments of the database.

        Raises:
            StoreUnavailableError: It cannot answer, and was not asked lately.
        """
        loop = asyncio.get_running_loop()
        async with self._reading:  # many requests at once cost one query
            if self._read_at is None or loop.time() - self._read_at > KEEP_S:
                self._stored = await self._store.symbols()
                self._read_at = loop.time()
        return self._stored

    def meant(self, exchange: str) -> str:
        """Return the exchange a caller means: in test mode the simulated one."""
        return simulated_name(exchange) if self._is_test_mode() else exchange

    def meant_symbol(self, exchange: str, spelling: str) -> str:
        """Return our symbol for a spelling, the venue's own included (``XBT/USD``).

        Args:
            exchange: As returned by `meant`.

        Raises:
            ApiProblemError: It cannot be a symbol at all.
        """
        listing = self._memory.listings.resolve(exchange, spelling)
        if listing is not None:
            return listing.symbol
        for each in self._stored:
            if each.exchange == exchange and each.venue_symbol == spelling:
                return each.symbol
        return symbol_name(spelling)

    async def exchanges(self, symbol: str) -> list[str]:
        """Return the exchanges of the current mode that have a symbol.

        Raises:
            ApiProblemError: None has it.
            StoreUnavailableError: Nothing is known of it here, and the database cannot be asked.
        """
        found = {name for name, known, _ in self._memory.tail.known() if known == symbol}
        found.update(name for name, known, _ in self._memory.open.known() if known == symbol)
        found.update(self._memory.prices.exchanges(symbol))
        found.update(self._memory.listings.exchanges(symbol))
        try:
            stored = await self.stored()
        except StoreUnavailableError:
            if not found:
                raise
            stored = ()
        found.update(each.exchange for each in stored if each.symbol == symbol)
        if not found:
            raise unknown_symbol(symbol)
        of_mode = [name for name in found if is_simulated(name) == self._is_test_mode()]
        if not of_mode:
            raise unknown_symbol(symbol)
        return sorted(of_mode)

    async def instruments(self, exchange: str | None, spelling: str) -> tuple[list[str], str]:
        """Return where a symbol is traded that a caller means, and our spelling of it.

        Raises:
            ApiProblemError: It is not known there; without ``exchange``, nowhere in this mode.
            StoreUnavailableError: Nothing is known of it here, and the database cannot be asked.
        """
        if exchange is None:
            symbol = symbol_name(spelling)
            return await self.exchanges(symbol), symbol
        meant = self.meant(exchange)
        symbol = self.meant_symbol(meant, spelling)
        await self.require(meant, symbol)
        return [meant], symbol

    async def require(self, exchange: str, symbol: str) -> None:
        """Return when an instrument is known.

        Raises:
            ApiProblemError: It is not.
            StoreUnavailableError: Nothing is known of it here, and the database cannot be asked.
        """
        if self._memory.prices.get(exchange, symbol) is not None:
            return
        instrument = (exchange, symbol)
        memory = self._memory
        if memory.listings.get(exchange, symbol) is not None:
            return
        if any(key[:2] == instrument for key in (*memory.tail.known(), *memory.open.known())):
            return
        if not any((each.exchange, each.symbol) == instrument for each in await self.stored()):
            raise unknown_symbol(f"{symbol} on {exchange}")

    async def has_exchange(self, exchange: str) -> bool:
        """Return whether anything is, was or is to be recorded of an exchange.

        Args:
            exchange: As returned by `meant`.

        Raises:
            StoreUnavailableError: Nothing is known here, and the database cannot be asked.
        """
        return exchange in self._configured or bool(await self.listings(exchange))

    async def listings(self, exchange: str) -> list[Listing]:
        """Return every instrument of an exchange, by symbol; what is not known of it is None.

        Args:
            exchange: As returned by `meant`.

        Raises:
            StoreUnavailableError: Nothing is known here, and the database cannot be asked.
        """
        found = {each.symbol: each for each in self._memory.listings.of(exchange)}
        try:
            stored = await self.stored()
        except StoreUnavailableError:
            if not found:
                raise
            stored = ()
        for each in stored:
            if each.exchange == exchange and each.symbol not in found:
                found[each.symbol] = _listing(each)
        for symbol in self._memory.prices.symbols(exchange):
            found.setdefault(symbol, _nameless(exchange, symbol))
        return [found[symbol] for symbol in sorted(found)]

    async def listing(self, exchange: str, symbol: str) -> Listing:
        """Return one instrument that is known (`instruments`), as `listings` does."""
        listing = self._memory.listings.get(exchange, symbol)
        if listing is not None:
            return listing
        try:
            stored = await self.stored()
        except StoreUnavailableError:
            stored = ()  # its name is known, or nobody would ask
        for each in stored:
            if (each.exchange, each.symbol) == (exchange, symbol):
                return _listing(each)
        return _nameless(exchange, symbol)

    async def first_trade_us(self, exchange: str, symbol: str) -> int | None:
        """Return the time of the oldest trade ever stored, in microseconds.

        Raises:
            StoreUnavailableError: The database cannot be asked.
        """
        for each in await self.stored():
            if (each.exchange, each.symbol) == (exchange, symbol):
                first = each.first_trade_at
                return None if first is None else (first - EPOCH) // timedelta(microseconds=1)
        return None


def _listing(stored: StoredSymbol) -> Listing:
    """Return a row of the table as a listing."""
    return Listing(
        v=WIRE_VERSION,
        exchange=stored.exchange,
        symbol=stored.symbol,
        venue_symbol=stored.venue_symbol or stored.symbol,
        rest_symbol=stored.venue_symbol or stored.symbol,
        base=stored.base,
        quote=stored.quote,
        price_step=stored.price_step,
        amount_step=stored.amount_step,
        volume_kind="updates" if stored.volume_kind == "updates" else "base",
        state="inactive" if stored.state == "inactive" else "active",
    )


def _nameless(exchange: str, symbol: str) -> Listing:
    """Return the listing of an instrument of which only the symbol is known."""
    return Listing(
        v=WIRE_VERSION,
        exchange=exchange,
        symbol=symbol,
        venue_symbol=symbol,
        rest_symbol=symbol,
        base=None,
        quote=None,
        price_step=None,
        amount_step=None,
        volume_kind="base",
        state="active",
    )
