"""Shards divide the slots among themselves, each to exactly one."""

import socket

import pytest

from market_ingestor.errors import ConfigError
from market_ingestor.runtime.shard import Shard


def test_every_slot_has_one_owner() -> None:
    shards = [Shard.parse(f"{index}/5") for index in range(1, 6)]
    for slot in range(64):
        assert sum(shard.owns(slot) for shard in shards) == 1


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "a/2", "1", "1/", "-1/2"])
def test_a_bad_shard_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        Shard.parse(text)


def test_the_ordinal_comes_from_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ingest-3")
    assert Shard.parse("auto/8") == Shard(index=4, count=8)
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    with pytest.raises(ConfigError):
        Shard.parse("auto/8")
