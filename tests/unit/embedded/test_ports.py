"""Rules for choosing ports."""

import socket

from market_ingestor.embedded.ports import LOOPBACK, PORT_MAX, PORT_MIN, free_port, is_free


def test_a_chosen_port_can_be_bound_and_is_never_lent_to_clients() -> None:
    port = free_port()
    assert PORT_MIN <= port <= PORT_MAX < 32_768
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
