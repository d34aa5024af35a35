"""JetStream's key-value buckets. SHELL."""

from nats.js.errors import KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from market_ingestor.bus import subjects
from market_ingestor.bus.cancellation import heeding_cancellation
from market_ingestor.bus.refusals import Refusals


class Bucket:
    """A key-value bucket: small values by key, the newest wins."""

    def __init__(self, name: str, store: KeyValue, refusals: Refusals) -> None:
        self._name = name
        self._store = store
        self._refusals = refusals

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, None when it has none; raises `TROUBLE`."""
        with heeding_cancellation():
            try:
                entry = await self._store.get(key)
            except KeyNotFoundError:
                return None
        return entry.value

    async def put(self, key: str, value: bytes) -> None:
        """Set a key, durably when this returns; raises `TROUBLE`."""
        async with self._refusals.watch(subjects.bucket_subject(self._name, key)):
            with heeding_cancellation():
                await self._store.put(key, value)

    async def keys(self) -> list[str]:
        """Return the keys that have a value; raises `TROUBLE`."""
        with heeding_cancellation():
            try:
                return await self._store.keys()
            except NoKeysError:
                return []
