"""A wrong or missing setting is named, whatever layer it came from."""

from pathlib import Path

import pytest

from market_ingestor.config import load
from market_ingestor.errors import ConfigError

DSN = {"MARKET_INGESTOR_DATABASE__DSN": "postgresql://h/d"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_contracts(tmp_path: Path) -> None:
    settings = load(written(tmp_path, ""), env=DSN).settings
    assert settings.save.batch_size == 1_000
    assert settings.save.batch_size_max == 5_000
    assert settings.klines.lateness_s == 2
    assert settings.gateway.port == 8081
    assert settings.gateway.tcp_port == 8888
    assert settings.api.port == 8080
    assert settings.run.shutdown_grace_s == 10
    assert settings.nats.raw_max_age == 48 * 3600
    assert settings.nats.raw_max_bytes == 8 * 1024**3


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[save]\nbatch_size = 7\n[database]\ndsn = "postgresql://from/file"\n')
    loaded = load(path, env={**DSN, "MARKET_INGESTOR_SAVE__BATCH_SIZE": "9"})
    assert loaded.settings.save.batch_size == 9
    assert loaded.sources["save.batch_size"] == "MARKET_INGESTOR_SAVE__BATCH_SIZE"
    assert loaded.settings.database.dsn.get_secret_value() == "postgresql://h/d"


def test_the_command_line_wins_over_all(tmp_path: Path) -> None:
    loaded = load(
        written(tmp_path, '[ingest]\nmode = "live"\n'), env=DSN, overrides={"ingest.mode": "test"}
    )
    assert loaded.settings.ingest.mode == "test"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[save]\nbatch_siz = 1\n", "save.batch_siz"),
        ("[nope]\nx = 1\n", "nope"),
        ('[database]\ndsn = "mysql://h/d"\n', "database.dsn"),
        ("[save]\nbatch_size = 0\n", "save.batch_size"),
        ('[nats]\nraw_duplicate_window = "1s"\n', "nats.raw_duplicate_window"),
        ('[nats]\nservers = ["nats://h:1", "ws://user:secret@h:2"]\n', "nats.servers"),
        ("[nats]\nservers = []\n", "nats.servers"),
        ("[save]\nbatch_size = 10\nbatch_size_max = 5\n", "save"),
        ('[klines]\nperiods = ["1m", "2m"]\n', "klines.periods"),
        ('[exchanges.binance]\nsymbol = ["A"]\n', "exchanges.binance.symbol"),
        ('[exchanges."B.x"]\n', "exchanges"),
        ('[api]\nhost = "0.0.0.0"\n', "api"),
        ('[ingest]\nmode = "both"\n', "ingest.mode"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, text), env={} if "dsn" in text else DSN)
    assert raised.value.key == key
    assert "secret" not in str(raised.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.dsn: is missing"):
        load(written(tmp_path, ""), env={})


def test_a_misspelt_key_is_named_before_the_one_it_was_meant_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.dsm: is not a known key"):
        load(written(tmp_path, '[database]\ndsm = "postgresql://h/d"\n'), env={})


def test_a_misspelt_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save\.batchsize"):
        load(written(tmp_path, ""), env={**DSN, "MARKET_INGESTOR_SAVE__BATCHSIZE": "1"})


def test_variables_injected_by_kubernetes_are_ignored(tmp_path: Path) -> None:
    env = {**DSN, "MARKET_INGESTOR_API_PORT": "tcp://10.0.0.1:8080"}
    assert load(written(tmp_path, ""), env=env).settings.api.port == 8080


def test_a_secret_may_live_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://secret/d\n")
    env = {"MARKET_INGESTOR_DATABASE__DSN_FILE": str(secret)}
    dsn = load(written(tmp_path, ""), env=env).settings.database.dsn
    assert dsn.get_secret_value() == "postgresql://secret/d"
    assert "secret" not in repr(dsn)


def test_names_of_the_source_documents_are_accepted(tmp_path: Path) -> None:
    env = {
        "BATCH_SIZE": "11",
        "FLUSH_INTERVAL": "2",
        "WS_SEND_BUFFER": "12",
        "APP_PORT": "13",
        "DB_HOST": "db",
        "DB_USER": "u",
        "DB_PASSWORD": "p@ss",
        "DB_NAME": "n",
    }
    settings = load(written(tmp_path, ""), env=env).settings
    assert settings.save.batch_size == 11
    assert settings.save.flush_interval_s == 2
    assert settings.gateway.send_buffer == 12
    assert settings.api.port == 13
    assert settings.database.dsn.get_secret_value() == "postgresql://u:p%40ss@db:5432/n"


def test_lists_may_be_written_with_commas(tmp_path: Path) -> None:
    env = {**DSN, "MARKET_INGESTOR_EXCHANGES__SIM_OKX__SYMBOLS": "BTCUSDT, ETHUSDT"}
    exchanges = load(written(tmp_path, ""), env=env).settings.exchanges
    assert exchanges["sim-okx"].symbols == ("BTCUSDT", "ETHUSDT")


def test_durations_may_carry_a_unit(tmp_path: Path) -> None:
    settings = load(written(tmp_path, '[nats]\nraw_max_age = "6h"\n'), env=DSN).settings
    assert settings.nats.raw_max_age == 6 * 3600


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        load(written(tmp_path, "[["), env=DSN)


FEED_SYMBOLS = ("BTCUSDT", "DOGEUSDT", "TONUSDT", "SOLUSDT", "ETHUSDT")


def test_tcp_feeds_and_tokens(tmp_path: Path) -> None:
    text = """
        [exchanges.finnhub]
        symbols = ["AAPL"]
        token = "key"
        [exchanges.exchange1]
        kind = "tcp"
        port = 40101
        symbols = ["BTCUSDT"]
        default_amount = 0.5
    """
    exchanges = load(written(tmp_path, text), env=DSN).settings.exchanges
    token = exchanges["finnhub"].token
    assert token is not None
    assert token.get_secret_value() == "key"
    assert "key" not in repr(exchanges)
    feed = exchanges["exchange1"]
    assert (feed.host, feed.port, feed.default_amount) == ("127.0.0.1", 40101, "0.5")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[exchanges.a]\nkind = "tcp"\n', "exchanges.a"),
        ("[exchanges.a]\nport = 1\n", "exchanges.a"),
        ('[exchanges.a]\nkind = "tcp"\nport = 0\n', "exchanges.a.port"),
        ('[exchanges.a]\nkind = "udp"\n', "exchanges.a.kind"),
        ("[exchanges.a]\ndefault_amount = 0\n", "exchanges.a.default_amount"),
        ('[exchanges.a]\ndefault_amount = "x"\n', "exchanges.a.default_amount"),
    ],
)
def test_a_feed_that_cannot_be(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, text), env=DSN)
    assert raised.value.key == key


def test_feeds_of_the_source_documents(tmp_path: Path) -> None:
    env = {
        **DSN,
        "EXCHANGE1_PORT": "50101",
        "EXCHANGE1_NAME": "exchange1",
        "EXCHANGE2_NAME": "Exchange2",
        "EXCHANGE3_PORT": "tcp://10.0.0.7:40103",  # as orchestrators inject it
        "EXCHANGE_PORT": "1",
    }
    exchanges = load(written(tmp_path, ""), env=env).settings.exchanges
    assert {name: (each.host, each.port) for name, each in exchanges.items()} == {
        "exchange1": ("127.0.0.1", 50101),
        "exchange2": ("127.0.0.1", 40102),
        "exchange3": ("10.0.0.7", 40103),
    }
    assert all(each.kind == "tcp" for each in exchanges.values())
    assert all(each.symbols == FEED_SYMBOLS for each in exchanges.values())


def test_a_port_of_the_source_documents_leaves_the_files_symbols(tmp_path: Path) -> None:
    text = '[exchanges.exchange1]\nkind = "tcp"\nport = 1\nhost = "h"\nsymbols = ["A"]\n'
    loaded = load(written(tmp_path, text), env={**DSN, "EXCHANGE1_PORT": "2"})
    feed = loaded.settings.exchanges["exchange1"]
    assert (feed.host, feed.port, feed.symbols) == ("h", 2, ("A",))
