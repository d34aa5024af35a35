"""How many clients may come in, in all and from one address. Pure."""

from typing import Final

from market_ingestor.access import is_loopback

PER_ADDRESS_MAX: Final = 256  # an office behind one address, not a flood; loopback is exempt


class Door:
    """Counts clients.

    Args:
        clients_max: At the same time, over all transports.
        per_address_max: From one address; local and proxied callers without a known address
            of their own are counted in all only.
    """

    def __init__(self, clients_max: int, per_address_max: int = PER_ADDRESS_MAX) -> None:
        self._clients_max = clients_max
        self._per_address_max = per_address_max
        self._by_address: dict[str, int] = {}
        self.clients = 0

    def has_room(self, address: str) -> bool:
        """Return whether another client from ``address`` may come in."""
        if self.clients >= self._clients_max:
            return False
        if is_loopback(address):
            return True
        return self._by_address.get(address, 0) < self._per_address_max

    def enter(self, address: str) -> bool:
        """Count a client; False when there is no room for it."""
        if not self.has_room(address):
            return False
        self.clients += 1
        self._by_address[address] = self._by_address.get(address, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """Count a client off that `enter` counted."""
        self.clients -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
