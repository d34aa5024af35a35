"""The gateway on uvloop, whose transports buffer in their own way."""

from typing import Any

import pytest

from tests.integration.push.test_bad_messages import (
    test_message_of_ten_megabytes_ends_that_client_only,
)
from tests.integration.push.test_hostile import (
    _close_what_is_held,
    test_connections_of_one_address_are_cut_before_they_speak,
    test_flood_of_fragments_ends_that_client,
    test_flood_of_pings_ends_that_client,
    test_half_open_handshakes_are_cut_and_take_nobodys_place,
    test_socket_that_takes_nothing_is_given_up,
)
from tests.integration.push.test_lines import TestLines
from tests.integration.push.test_slow_readers import (
    test_stopped_reader_delays_nobody_and_can_resume,
)
from tests.integration.push.test_stopping import test_stop_closes_clients_with_going_away
from tests.integration.push.test_subscriptions import (
    test_batches_are_arrays_of_messages,
    test_two_clients_get_open_and_closed_candles,
)

__all__ = [
    "TestLines",
    "_close_what_is_held",
    "test_batches_are_arrays_of_messages",
    "test_connections_of_one_address_are_cut_before_they_speak",
    "test_flood_of_fragments_ends_that_client",
    "test_flood_of_pings_ends_that_client",
    "test_half_open_handshakes_are_cut_and_take_nobodys_place",
    "test_message_of_ten_megabytes_ends_that_client_only",
    "test_socket_that_takes_nothing_is_given_up",
    "test_stop_closes_clients_with_going_away",
    "test_stopped_reader_delays_nobody_and_can_resume",
    "test_two_clients_get_open_and_closed_candles",
]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}
