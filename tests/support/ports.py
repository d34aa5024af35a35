"""Ports that nobody listens on, for programs that cannot be told to choose one themselves."""

from market_ingestor.embedded.ports import free_port


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now, and that no outgoing connection is lent."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
