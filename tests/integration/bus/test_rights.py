"""Each role's rights are enough for its work, and no more."""

import asyncio
from collections.abc import Callable

import pytest

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.listings import ListingWriter, follow_listings
from market_ingestor.bus.making import ensure_streams
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.embedded import NatsUser
from market_ingestor.model.control import ControlState, Member
from market_ingestor.model.listing import ListingBook
from tests.support.servers import NatsHandle
from tests.unit.model.test_listing import listing

pytestmark = pytest.mark.anyio

LIMITS = streams.StreamLimits(max_age_s=3_600, max_bytes=64 * 1024**2, duplicate_window_s=30)


@pytest.fixture
def guarded_server(make_nats_server: Callable[..., NatsHandle]) -> NatsHandle:
    admin = NatsUser(name="admin", password="a")
    others = [
        NatsUser(
            name=name,
            password=name,
            publish=each.publish,
            subscribe=each.subscribe,
        )
        for name, each in ROLE_RIGHTS.items()
    ]
    return make_nats_server([admin, *others])


async def prepared(server: NatsHandle) -> None:
    bus = await Bus.connect([server.url], name="admin")
    await ensure_streams(
        bus,
        streams.market_streams(raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1),
        update=True,
    )
    bucket = await bus.bucket(subjects.STATE_BUCKET)
    for slot in range(64):
        await bucket.put(f"slot-{slot}", b"x" * 1_000)
    await bus.close()


async def test_only_ingest_may_publish_trades(guarded_server: NatsHandle) -> None:
    await prepared(guarded_server)
    for role in ROLE_RIGHTS:
        bus = await Bus.connect([guarded_server.url_for(role)], name=role)
        await bus.client.publish("market.raw.sim-okx.BTCUSDT", b"forged", reply="_INBOX.nobody")
        await bus.client.flush()
        stored = (await bus.stream_state(subjects.RAW_STREAM)).messages
        assert stored == 1, role  # only ingest's, which comes first in the table
        await bus.close()


async def test_the_savers_janitor_may_read_the_resume_records(guarded_server: NatsHandle) -> None:
    await prepared(guarded_server)
    bus = await Bus.connect([guarded_server.url_for("save")], name="save")
    bucket = await bus.bucket(subjects.STATE_BUCKET)
    assert len(await bucket.keys()) == 64
    assert await bucket.get("slot-7") == b"x" * 1_000
    with pytest.raises(TROUBLE):
        await bucket.put("slot-7", b"forged")
    await bus.close()


async def test_only_ingest_may_say_what_venues_list(guarded_server: NatsHandle) -> None:
    admin = await Bus.connect([guarded_server.url], name="admin")
    await admin.bucket(subjects.INSTRUMENTS_BUCKET)
    await admin.close()
    for role in ROLE_RIGHTS:
        bus = await Bus.connect([guarded_server.url_for(role)], name=role)
        if role == "ingest":
            writer = ListingWriter(bus)
            writer.put(listing())
            task = asyncio.create_task(writer.run())
        else:
            bucket = await bus.bucket(subjects.INSTRUMENTS_BUCKET)
            with pytest.raises(TROUBLE):
                await bucket.put("kraken.BTCUSD", b"forged")
            task = asyncio.create_task(asyncio.sleep(0))
        book = ListingBook()
        following = asyncio.create_task(follow_listings(bus, book.put))
        async with asyncio.timeout(20):
            while not len(book):  # noqa: ASYNC110 - the book has no event
                await asyncio.sleep(0.02)
        assert [each.symbol for each in book] == ["BTCUSD"], role
        for each in (task, following):
            each.cancel()
        await asyncio.gather(task, following, return_exceptions=True)
        await bus.close()


async def test_control_works_with_least_rights(guarded_server: NatsHandle) -> None:
    buses = {
        role: await Bus.connect([guarded_server.url_for(role)], name=role)
        for role in ("ingest", "api", "gateway")
    }

    async def answer(payload: bytes) -> bytes:
        return payload.upper()

    await buses["ingest"].answer_core(subjects.CONTROL_SYMBOL, answer)
    await buses["ingest"].client.flush()
    api = buses["api"]
    said = None
    for _ in range(500):  # a flush may overtake the subscription before it
        said = await api.ask_core(subjects.CONTROL_SYMBOL, b"btc", timeout_s=5)
        if said is not None:
            break
        await asyncio.sleep(0.01)
    assert said == b"BTC"

    woken = {role: asyncio.Event() for role in buses}
    boards = {role: ControlBoard(bus) for role, bus in buses.items()}
    for role, board in boards.items():
        await board.on_write(woken[role].set)
        await buses[role].client.flush()
    state = ControlState.initial().with_mode("test")
    await boards["api"].write(state, await boards["api"].read())  # makes the bucket
    for role, board in boards.items():
        async with asyncio.timeout(5):
            await woken[role].wait()
        assert (await board.read()).state == state
    member = Member(name="a", shard="1/1", mode="test", modes=["test"], epoch="", revision=0)
    await boards["ingest"].report(member)
    assert await boards["api"].members() == {"a": member}
    with pytest.raises(TROUBLE):
        await boards["gateway"].write(state.with_mode("live"), await boards["gateway"].read())
    for bus in buses.values():
        await bus.close()
