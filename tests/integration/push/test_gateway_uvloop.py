"""The gateway on uvloop, whose transports buffer in their own way."""

from typing import Any

import pytest

from tests.integration.push.test_gateway import (
    TestLines,
    test_batches_are_arrays_of_messages,
    test_message_of_ten_megabytes_ends_that_client_only,
    test_stop_closes_clients_with_going_away,
    test_stopped_reader_delays_nobody_and_can_resume,
    test_two_clients_get_open_and_closed_candles,
)

__all__ = [
    "TestLines",
    "test_batches_are_arrays_of_messages",
    "test_message_of_ten_megabytes_ends_that_client_only",
    "test_stop_closes_clients_with_going_away",
    "test_stopped_reader_delays_nobody_and_can_resume",
    "test_two_clients_get_open_and_closed_candles",
]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}
