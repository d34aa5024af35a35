"""Reading recorded frames, whatever stands between the trades."""

import gzip
from pathlib import Path

import pytest

from market_ingestor.errors import ConfigError
from market_ingestor.simulator.frames import Positions, load

TRADE = (
    '{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1680652800000,"s":"BTCUSDT","t":{id},'
    '"p":"28165.47000000","q":"0.00056000","T":1680652799999,"m":true,"M":true}}}}'
)
KLINE = '{"stream":"ethusdt@kline_1m","data":{"e":"kline","E":1680652800001,"s":"ETHUSDT","k":{}}}'


def write(folder: Path, *lines: str) -> Path:
    path = folder / "frames.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_frames_are_kept_verbatim_and_trades_are_understood(tmp_path: Path) -> None:
    recording = load("binance", write(tmp_path, f"1680652800004107 {TRADE.format(id=5)}"))
    (market,) = recording.markets
    ((frame,),) = recording.tapes
    assert frame.wrapped.decode() == TRADE.format(id=5)
    assert frame.received_us == 1_680_652_800_004_107
    assert frame.fill is not None
    assert (frame.id, frame.fill.is_buy, frame.fill.time_us) == (5, False, 1_680_652_799_999_000)
    assert market.native == "BTCUSDT"
    assert market.price_text(frame.fill.price) == "28165.47000000"
    assert market.amount_text(frame.fill.amount) == "0.00056000"


@pytest.mark.parametrize(
    ("lead", "received_us"),
    [
        ("1680652800004107 ", 1_680_652_800_004_107),
        ("1680652800004 ", 1_680_652_800_004_000),
        ("1680652800.004107: ", 1_680_652_800_004_107),
        ("", 1_680_652_800_000_000),
    ],
)
def test_a_leading_receive_time_is_optional(tmp_path: Path, lead: str, received_us: int) -> None:
    recording = load("binance", write(tmp_path, lead + TRADE.format(id=5)))
    assert recording.tapes[0][0].received_us == received_us


def test_every_symbol_gets_its_tape_and_other_messages_stay_in_place(tmp_path: Path) -> None:
    recording = load(
        "binance",
        write(
            tmp_path,
            '{"result":null,"id":1}',
            TRADE.format(id=5),
            "garbage",
            KLINE,
            TRADE.format(id=6),
        ),
    )
    assert [market.native for market in recording.markets] == ["BTCUSDT", "ETHUSDT"]
    bitcoin, ether = recording.tapes
    assert [frame.id for frame in bitcoin] == [0, 5, 0, 6]
    assert bitcoin[0].wrapped == b'{"result":null,"id":1}'
    assert bitcoin[2].wrapped == b"garbage"
    assert [frame.wrapped.decode() for frame in ether] == [KLINE]


def test_raw_frames_are_wrapped_for_combined_sockets(tmp_path: Path) -> None:
    raw = TRADE.format(id=5).partition('"data":')[2][:-1]
    ((frame,),) = load("binance", write(tmp_path, raw)).tapes
    assert frame.raw.decode() == raw
    assert frame.wrapped.decode() == TRADE.format(id=5)
    ((wrapped,),) = load("binance", write(tmp_path, TRADE.format(id=5))).tapes
    assert wrapped.raw.decode() == raw


@pytest.mark.parametrize(("number", "spoiled"), [("28165.47000000", "NaN"), ("0.00056000", "0")])
def test_a_trade_with_an_absurd_number_is_sent_but_is_no_trade(
    tmp_path: Path, number: str, spoiled: str
) -> None:
    ((frame,),) = load(
        "binance", write(tmp_path, TRADE.format(id=5).replace(number, spoiled))
    ).tapes
    assert (frame.id, frame.fill) == (0, None)


def test_gzip_and_plain_files_read_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path, TRADE.format(id=5))
    packed = tmp_path / "frames.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load("binance", packed) == load("binance", plain)


def test_files_that_cannot_be_played_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no frame that names a symbol"):
        load("binance", write(tmp_path, '{"result":null}'))
    with pytest.raises(ConfigError, match="No such file"):
        load("binance", tmp_path / "missing")
    with pytest.raises(ConfigError, match="only of binance"):
        load("okx", write(tmp_path, TRADE.format(id=5)))


def test_positions_survive_for_the_same_recording_only(tmp_path: Path) -> None:
    lines = [TRADE.format(id=number) for number in range(1, 6)]
    recording = load("binance", write(tmp_path, *lines))
    positions = Positions(recording, tmp_path)
    positions.played[0] = 3
    positions.save()
    assert Positions(recording, tmp_path).played == [3]
    other = load("binance", write(tmp_path, *lines, TRADE.format(id=6)))
    assert Positions(other, tmp_path).played == [0]
    assert Positions(recording, None).played == [0]
