"""How many clients may come in, in all and from one address. Pure."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from market_ingestor.access import is_loopback

PER_ADDRESS_MAX: Final = 256  # an office behind one address, not a flood
WAITING_MAX: Final = 1_000  # connections beyond the clients allowed, to tell them that it is full


class Door:
    """Counts connections, and the clients among them.

    Args:
        clients_max: At the same time, over all transports.
        per_address_max: From one address; twice as many connections, for handshakes under way.
        proxies: Addresses many clients share, which are counted in all only.
        exempts_loopback: Local callers are counted in all only.
    """

    def __init__(
        self,
        clients_max: int,
        per_address_max: int = PER_ADDRESS_MAX,
        *,
        proxies: Collection[str] = (),
        exempts_loopback: bool = True,
    ) -> None:
        self._clients_max = clients_max
        self._per_address_max = per_address_max
        self._proxies = frozenset(proxies)
        self._exempts_loopback = exempts_loopback
        self._clients_by_address: Counter[str] = Counter()
        self._connections_by_peer: Counter[str] = Counter()
        self.connections = 0
        self.clients = 0

    def _is_exempt(self, address: str) -> bool:
        return address in self._proxies or (self._exempts_loopback and is_loopback(address))

    # -- connections, whatever they are going to say

    def knock(self, peer: str) -> bool:
        """Count a connection from ``peer``; False when there is no room even to hear it."""
        if self.connections >= self._clients_max + WAITING_MAX:
            return False
        from_peer = self._connections_by_peer[peer]
        if from_peer >= 2 * self._per_address_max and not self._is_exempt(peer):
            return False
        self.connections += 1
        self._connections_by_peer[peer] = from_peer + 1
        return True

    def go(self, peer: str) -> None:
        """Count a connection off that `knock` counted."""
        self.connections -= 1
        _count_off(self._connections_by_peer, peer)

    # -- clients

    def has_room(self, address: str) -> bool:
        """Return whether another client from ``address`` may come in."""
        if self.clients >= self._clients_max:
            return False
        from_address = self._clients_by_address[address]
        return from_address < self._per_address_max or self._is_exempt(address)

    def enter(self, address: str) -> bool:
        """Count a client; False when there is no room for it."""
        if not self.has_room(address):
            return False
        self.clients += 1
        self._clients_by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a client off that `enter` counted."""
        self.clients -= 1
        _count_off(self._clients_by_address, address)


def _count_off(counts: Counter[str], key: str) -> None:
    """Count one less; what is nought is forgotten."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
