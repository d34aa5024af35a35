"""Settings: where they come from, what they may be, and which key is wrong when one is.

Layers, later ones win: defaults here, the TOML file, ``.env``, the environment, the command line.
Each stage receives only its own section. Unknown keys are errors in every layer; of the
environment only ``MARKET_INGESTOR_SECTION__KEY`` is read, because Kubernetes injects
``MARKET_INGESTOR_..._PORT`` variables of its own.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote, urlsplit

import dotenv
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from market_ingestor.errors import ConfigError
from market_ingestor.model.decimals import BadNumberError, checked
from market_ingestor.model.exchange import is_exchange_name
from market_ingestor.model.period import BASE_PERIOD, PERIOD_MS
from market_ingestor.suggestions import did_you_mean

DEFAULT_FILE: Final = Path("/etc/market-ingestor/config.toml")
PREFIX: Final = "MARKET_INGESTOR_"
_FILE_SUFFIX: Final = "_FILE"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# A WebSocket address without a password, blanks or what could end a header's directive.
PUSH_URL: Final = r"^wss?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$"
_GIB: Final = 1024**3
_MIB: Final = 1024**2
_DAY_S: Final = 86_400


def _words(value: Any) -> Any:
    """Split a comma-separated text, as environments have it, into a list."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": _DAY_S}


def _seconds(value: Any) -> Any:
    """Read ``48h``, ``30m``, ``90s`` or ``7d``; a bare number is seconds."""
    if isinstance(value, str) and value[-1:] in _UNITS_S and value[:-1].isdigit():
        return int(value[:-1]) * _UNITS_S[value[-1]]
    return value


def _positive_number(value: Any) -> str:
    """Return a positive number's text in plain notation; TOML may have it as a number."""
    try:
        number, plain = checked(str(value))
    except BadNumberError as problem:
        raise ValueError(f"{value!r} is no number") from problem
    if number <= 0:
        raise ValueError(f"{value!r} is not positive")
    return plain


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_words)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
# Ids must outlive the resends of a server's restart, and live in the server's memory.
DuplicateWindow = Annotated[float, BeforeValidator(_seconds), Field(ge=10, le=3_600)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class NatsSettings(Section):
    """``[nats]``: the bus. A duplicate window is how long a message id is remembered."""

    servers: Words = ("nats://127.0.0.1:4222",)
    creds: str | None = None
    nkey_seed: SecretStr | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    manage_streams: Literal["update", "create", "never"] = "update"
    raw_max_age: Duration = 2 * _DAY_S
    raw_max_bytes: Count = 8 * _GIB
    kline_max_bytes: Count = 8 * _GIB
    event_max_bytes: Count = 256 * _MIB
    dead_max_bytes: Count = 256 * _MIB
    derived_max_age: Duration = 14 * _DAY_S
    raw_duplicate_window: DuplicateWindow = 30
    derived_duplicate_window: DuplicateWindow = 120

    @field_validator("servers")
    @classmethod
    def _spoken(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        if not servers:
            raise ValueError("names no server")
        for each in servers:
            scheme, separator, _ = each.partition("://")
            if separator and scheme not in {"nats", "tls"}:
                raise ValueError(f"{scheme}:// is not spoken, nats://host:port and tls:// are")
        return servers


class DatabaseSettings(Section):
    """``[database]``: PostgreSQL, with or without TimescaleDB."""

    dsn: SecretStr
    migrate_on_start: bool = False
    connections: Annotated[int, Field(ge=2, le=100)] = 4
    statement_timeout_s: Positive = 20

    @field_validator("dsn")
    @classmethod
    def _postgresql(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("is not postgresql://user:password@host:port/name")
        return dsn


class ExchangeSettings(Section):
    """``[exchanges.NAME]``: one exchange; ``sim-NAME`` speaks the protocol of NAME.

    With ``kind = "tcp"`` it is a feed of lines at ``host`` and ``port`` under any name; a trade
    without amount gets ``default_amount``. ``token`` is the key of a venue that wants one.
    ``sockets`` connections carry every symbol side by side: what one loses another has.
    """

    enabled: bool = True
    symbols: Words = ()
    sockets: Annotated[int, Field(ge=1, le=4)] = 1
    ws_url: str | None = None
    rest_url: str | None = None
    token: SecretStr | None = None
    kind: Literal["venue", "tcp"] = "venue"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    default_amount: Annotated[str, BeforeValidator(_positive_number)] = "1"

    @model_validator(mode="after")
    def _tcp_has_a_port(self) -> Self:
        if (self.kind == "tcp") != (self.port is not None):
            raise ValueError('kind = "tcp" and a port need each other')
        return self


class IngestSettings(Section):
    """``[ingest]``: from sockets to the bus. The age limits concern live frames only; 0 = any."""

    mode: Literal["live", "test"] = "live"
    max_messages_per_s: Positive = 10_000
    linger_ms_max: NotNegative = 20
    buffer_trades: Count = 100_000
    read_timeout_s: Positive = 60
    write_timeout_s: Positive = 10
    backoff_max_s: Annotated[float, Field(ge=1)] = 60
    max_trade_age_s: NotNegative = _DAY_S
    max_trade_ahead_s: NotNegative = 5
    reorder_wait_ms: NotNegative = 200
    pause_max_s: Positive = 5


class KlinesSettings(Section):
    """``[klines]``: from trades to candles."""

    periods: Words = tuple(PERIOD_MS)
    lateness_s: NotNegative = 2
    hold_max_s: Positive = 10
    live_interval_ms: NotNegative = 100
    fill_empty: bool = False

    @field_validator("periods")
    @classmethod
    def _known_periods(cls, periods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [period for period in periods if period not in PERIOD_MS]
        if unknown:
            raise ValueError(f"unknown period {unknown[0]!r}")
        if BASE_PERIOD not in periods:
            raise ValueError(f"{BASE_PERIOD!r} is missing: every longer candle is made of it")
        return periods


class SaveSettings(Section):
    """``[save]``: from the bus to the database. Retentions are durations, 0 keeps for ever."""

    batch_size: Count = 1_000
    batch_size_max: Count = 5_000
    flush_interval_s: Positive = 1
    trade_retention: Duration = 0
    kline_retention: Duration = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.batch_size_max < self.batch_size:
            raise ValueError("batch_size_max is below batch_size")
        return self


class Listener(Section):
    """A network listener: loopback, or tokens, or an explicit word that nobody minds."""

    host: str = "127.0.0.1"
    tokens: Secrets = ()
    origins: Words = ()
    allow_anonymous: bool = False

    @model_validator(mode="after")
    def _not_open_by_accident(self) -> Self:
        if self.host not in _LOOPBACK and not self.tokens and not self.allow_anonymous:
            raise ValueError(
                f"host {self.host!r} is reachable by others: set tokens or allow_anonymous"
            )
        return self


class GatewaySettings(Listener):
    """``[gateway]``: push clients.

    ``public_url`` is where browsers find ``/ws`` when that is another name or port than its own.
    """

    port: Port = 8081
    public_url: Annotated[str, Field(pattern=PUSH_URL)] | None = None
    tcp_port: Port = 8888
    send_buffer: Count = 256
    send_buffer_bytes: Count = 1 * _MIB
    ring_bytes: Count = 64 * _MIB
    max_clients: Count = 20_000
    max_clients_per_address: Count = 256
    limit_loopback: bool = False
    trusted_proxies: Words = ()


class ApiSettings(Listener):
    """``[api]``: REST."""

    port: Port = 8080
    request_timeout_s: Positive = 5
    control_tokens: Secrets = ()
    rate_limit_rps: NotNegative = 0


class MetricsSettings(Section):
    """``[metrics]``: health and metrics of each process; without a port the role's own."""

    host: str = "127.0.0.1"
    port: Port | None = None


class RunSettings(Section):
    """``[run]``: the process."""

    shutdown_grace_s: Positive = 10


def _exchanges(value: Any) -> Any:
    if isinstance(value, Mapping):
        for name in value:
            if not is_exchange_name(name):
                raise ValueError(f"{name!r} is not an exchange name ([a-z0-9-], at most 24)")
    return value


class Settings(Section):
    """Everything, one section per stage."""

    database: DatabaseSettings
    nats: NatsSettings = NatsSettings()
    exchanges: Annotated[dict[str, ExchangeSettings], BeforeValidator(_exchanges)] = {}
    ingest: IngestSettings = IngestSettings()
    klines: KlinesSettings = KlinesSettings()
    save: SaveSettings = SaveSettings()
    gateway: GatewaySettings = GatewaySettings()
    api: ApiSettings = ApiSettings()
    metrics: MetricsSettings = MetricsSettings()
    run: RunSettings = RunSettings()


class Loaded(Section):
    """Settings with, for each key that was given, the layer it came from."""

    settings: Settings
    sources: dict[str, str]


_LEGACY: Final = {
    "BATCH_SIZE": "save.batch_size",
    "FLUSH_INTERVAL": "save.flush_interval_s",
    "WS_SEND_BUFFER": "gateway.send_buffer",
    "APP_PORT": "api.port",
}
# ``EXCHANGE1_PORT``, ``EXCHANGE1_NAME`` and so on: TCP feeds, on these ports unless told.
_LEGACY_FEED: Final = re.compile(r"EXCHANGE([1-9][0-9]{0,2})_(?:PORT|NAME)")
_LEGACY_FEED_PORT: Final = 40_100
_LEGACY_FEED_SYMBOLS: Final = ("BTCUSDT", "DOGEUSDT", "TONUSDT", "SOLUSDT", "ETHUSDT")
_DEFAULT_EXCHANGES: Final[dict[str, Any]] = {
    "binance": {"symbols": ["BTCUSDT", "ETHUSDT"]},
    "okx": {"symbols": ["BTCUSDT", "ETHUSDT"]},
    "bybit": {"symbols": ["BTCUSDT", "ETHUSDT"]},
    "coinbase": {"symbols": ["BTCUSD", "ETHUSD"]},
    "kraken": {"symbols": ["BTCUSD", "ETHUSD"]},
}


class _Layers:
    """A nested dictionary in the making, that remembers who set what."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}

    def section(self, path: tuple[str, ...]) -> dict[str, Any]:
        place = self.values
        for name in path:
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(".".join(path), f"{name!r} is not a section")
            place = inner
        return place

    def set(self, path: tuple[str, ...], value: Any, source: str) -> None:
        self.section(path[:-1])[path[-1]] = value
        self.sources[".".join(path)] = source

    def merge(self, tree: Mapping[str, Any], source: str, above: tuple[str, ...] = ()) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping) and len(above) < 2:  # noqa: PLR2004 - exchanges.NAME.key is deepest
                self.section((*above, name))
                self.merge(value, source, (*above, name))
            else:
                self.set((*above, name), value, source)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be read: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(str(path), f"is not TOML: {problem}") from problem


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (path, value, variable) of every variable that is meant for us."""
    for name in sorted(env):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
        if path[0] == "exchanges" and len(path) == 3:  # noqa: PLR2004 - exchanges.NAME.key
            path = (path[0], path[1].replace("_", "-"), path[2])
        value = env[name]
        if path[-1].upper().endswith(_FILE_SUFFIX):
            path = (*path[:-1], path[-1][: -len(_FILE_SUFFIX)])
            try:
                value = Path(value).read_text(encoding="utf-8").strip()
            except OSError as problem:
                raise ConfigError(name, f"cannot be read: {problem.strerror}") from problem
        yield path, value, name


def _from_legacy(env: Mapping[str, str], layers: _Layers) -> None:
    """Take the variable names of the source documents."""
    for name, key in _LEGACY.items():
        if name in env:
            layers.set(tuple(key.split(".")), env[name], name)
    if "DB_HOST" in env or "DB_NAME" in env:
        user = quote(env.get("DB_USER", "postgres"), safe="")
        password = quote(env.get("DB_PASSWORD", ""), safe="")
        place = f"{env.get('DB_HOST', '127.0.0.1')}:{env.get('DB_PORT', '5432')}"
        dsn = f"postgresql://{user}:{password}@{place}/{env.get('DB_NAME', 'postgres')}"
        layers.set(("database", "dsn"), dsn, "DB_HOST, DB_NAME, ...")


def _legacy_feeds(env: Mapping[str, str], layers: _Layers) -> None:
    """Take the TCP feeds of the source documents, each named ``exchange`` and its number.

    Orchestrators set ``EXCHANGE1_PORT=tcp://10.0.0.7:40101`` for a service of that name; this is
    understood too.
    """
    numbers = {int(found[1]) for name in env if (found := _LEGACY_FEED.fullmatch(name))}
    for number in sorted(numbers):
        port_name, name_name = f"EXCHANGE{number}_PORT", f"EXCHANGE{number}_NAME"
        name = env.get(name_name, "").strip().lower() or f"exchange{number}"
        place = env.get(port_name, "").strip() or str(_LEGACY_FEED_PORT + number)
        host: str | None = None
        if "://" in place:
            try:
                address = urlsplit(place)
                host, place = address.hostname, str(address.port)
            except ValueError as problem:
                raise ConfigError(port_name, f"is no address: {problem}") from problem
        source = port_name if port_name in env else name_name
        feed = layers.section(("exchanges", name))
        if host is not None:
            layers.set(("exchanges", name, "host"), host, source)
        layers.set(("exchanges", name, "port"), place, source)
        layers.set(("exchanges", name, "kind"), "tcp", source)
        if "symbols" not in feed:
            layers.set(("exchanges", name, "symbols"), list(_LEGACY_FEED_SYMBOLS), source)


def _explain(problem: ValidationError) -> ConfigError:
    """Turn the first finding into an error that names the key as the file spells it.

    Unknown keys come first: a misspelt one is why another is missing.
    """
    found = problem.errors(include_url=False, include_input=False)
    first = min(found, key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "config"
    words = {"missing": "is missing", "extra_forbidden": "is not a known key"}
    message = words.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] == "extra_forbidden":
        message += did_you_mean(str(first["loc"][-1]), _keys_beside(first["loc"]))
    return ConfigError(key, message)


def _keys_beside(place: tuple[int | str, ...]) -> Iterable[str]:
    """Return the keys there are where an unknown one was found."""
    if len(place) == 1:
        return Settings.model_fields
    if place[0] == "exchanges":
        return ExchangeSettings.model_fields
    section = Settings.model_fields[str(place[0])].default
    return type(section).model_fields if isinstance(section, Section) else ()


def load(
    path: Path | None,
    *,
    env: Mapping[str, str] | None = None,
    env_file: Path = Path(".env"),
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read every layer and return the settings with their sources.

    Args:
        path: The TOML file. None takes `DEFAULT_FILE` where it exists, else built-in values.
        env: The environment, the process's own by default.
        env_file: Variables for development; absent is fine.
        overrides: From the command line, keys as ``section.key``.

    Raises:
        ConfigError: Names the key and what is wrong with it.
    """
    env = os.environ if env is None else env
    layers = _Layers()
    chosen = path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None
    if chosen is not None:
        layers.merge(_from_file(chosen), str(chosen))
    from_dotenv = {key: value or "" for key, value in dotenv.dotenv_values(env_file).items()}
    for source, variables in ((f"{env_file}: ", from_dotenv), ("", env)):
        _from_legacy(variables, layers)
        _legacy_feeds(variables, layers)
        for where, value, name in _from_environment(variables):
            layers.set(where, value, source + name)
    for key, value in (overrides or {}).items():
        layers.set(tuple(key.split(".")), value, "command line")
    layers.values.setdefault("exchanges", _DEFAULT_EXCHANGES)
    layers.values.setdefault("database", {})
    try:
        settings = Settings.model_validate(layers.values)
    except ValidationError as problem:
        raise _explain(problem) from problem
    return Loaded(settings=settings, sources=layers.sources)
