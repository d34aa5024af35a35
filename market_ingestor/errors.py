"""Every error this package raises on purpose.

Catch the narrowest one that tells you what to do next::

    MarketIngestorError
    ├── ConfigError            a setting is missing or wrong; the process ends with exit status 2
    ├── EmbeddedError          nats-server or PostgreSQL could not be found, started or locked
    ├── DecodeError            a message on the bus is not what its subject promises
    ├── VenueError             an exchange refused or broke off; may say when to come back
    │   ├── VenueRefusedError  the exchange is well and refuses this one request
    │   ├── VenueProtocolError the exchange sent something its documents do not allow
    │   └── VenueBannedError   the exchange told us to stay away (418, 429, 403)
    ├── BusError               JetStream refused something for good, or set-up is wrong
    │   ├── StaleSequenceError a fenced publish lost against another writer
    │   ├── StreamRecreatedError  a stream that was being read is another one now
    │   ├── NotPermittedError  our user of NATS has no right to what was asked
    │   └── StreamSetupError   a stream or consumer could not be created as configured
    └── StorageError           the database is not in the shape the code needs
        └── StoreUnavailableError  the database cannot answer now; ask again later

What the world does in passing (time-outs, resets, a full disk) is not here: it stays the library's
own exception, and the shell at that boundary retries it.
"""

EXCERPT_CHARS_MAX = 200  # enough to recognise a frame in a log line, too little to flood it


def excerpt(payload: bytes | str) -> str:
    """Return the beginning of ``payload`` as printable text of at most 200 characters."""
    head = payload[: 4 * EXCERPT_CHARS_MAX]  # a frame may have megabytes
    text = head.decode("utf-8", "replace") if isinstance(head, bytes) else head
    return text if len(text) <= EXCERPT_CHARS_MAX else text[:EXCERPT_CHARS_MAX] + "..."


class MarketIngestorError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(MarketIngestorError):
    """A setting is missing or wrong.

    Attributes:
        key: The setting as written in the file, ``section.key``, or the name of the variable.
        problem: What is wrong with it, one clause.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


class EmbeddedError(MarketIngestorError):
    """An embedded server could not be found, started or locked; the text says what to do."""


class DecodeError(MarketIngestorError):
    """A message on the bus is not what its subject promises.

    Attributes:
        subject: Where it was read.
        reason: What the decoder found.
    """

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
        self.subject = subject
        self.reason = reason


class VenueError(MarketIngestorError):
    """An exchange refused a request or broke off.

    Attributes:
        exchange: Which one.
        retry_after_s: Seconds it asked us to wait, None when it did not say.
    """

    def __init__(self, exchange: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{exchange}: {message}")
        self.exchange = exchange
        self.retry_after_s = retry_after_s


class VenueRefusedError(VenueError):
    """The exchange is well and refuses this one request: an instrument it does not know."""


class VenueProtocolError(VenueError):
    """The exchange sent something its documents do not allow."""


class VenueBannedError(VenueError):
    """The exchange told us to stay away; ``retry_after_s`` is always set."""


class BusError(MarketIngestorError):
    """JetStream refused something for good, or its set-up is wrong."""


class StaleSequenceError(BusError):
    """A fenced publish found a newer message on its subject.

    Attributes:
        subject: Where it was to be published.
        expected: The last sequence the writer had read.
    """

    def __init__(self, subject: str, expected: int) -> None:
        super().__init__(f"{subject}: another writer published after sequence {expected}")
        self.subject = subject
        self.expected = expected


class StreamRecreatedError(BusError):
    """A stream that was being read was deleted and made again, or has lost its end.

    Attributes:
        stream: Its name; sequences known of it mean nothing any more.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream} was made anew or has lost its end")
        self.stream = stream


class NotPermittedError(BusError):
    """Our user of NATS has no right to what was asked; the text is the server's."""

    def __init__(self, trouble: str) -> None:
        super().__init__(f"not permitted: {trouble}")


class StreamSetupError(BusError):
    """A stream or consumer could not be created as configured."""


class StorageError(MarketIngestorError):
    """The database is not in the shape the code needs."""


class StoreUnavailableError(StorageError):
    """The database cannot answer right now; the caller keeps its work and asks again later."""
