"""nats-server and PostgreSQL as child processes, for the demo, the tests and the benchmarks.

One folder holds everything they keep; nobody else can use it meanwhile; and they end with the
process that started them, however that ends.
"""

from market_ingestor.embedded.embedded import Embedded, NatsRights
from market_ingestor.embedded.errors import (
    BinaryMissingError,
    EmbeddedError,
    FolderInUseError,
    ServerEndedError,
    ServerStartError,
)
from market_ingestor.embedded.folder import DataFolder, write_private
from market_ingestor.embedded.nats import EmbeddedNats
from market_ingestor.embedded.nats_config import NatsUser
from market_ingestor.embedded.postgres import EmbeddedPostgres

__all__ = [
    "BinaryMissingError",
    "DataFolder",
    "Embedded",
    "EmbeddedError",
    "EmbeddedNats",
    "EmbeddedPostgres",
    "FolderInUseError",
    "NatsRights",
    "NatsUser",
    "ServerEndedError",
    "ServerStartError",
    "write_private",
]
