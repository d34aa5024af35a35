"""Advisory locks by which processes share what only one of them does at a time. Pure."""

import enum


@enum.unique
class Duty(enum.IntEnum):
    """The key of each: "market" in ASCII, then a number."""

    MIGRATE = 0x6D61726B65740001
    COUNT_SYMBOLS = 0x6D61726B65740002
    MAKE_PARTITIONS = 0x6D61726B65740003
    SET_POLICIES = 0x6D61726B65740004
    WRITE_LISTINGS = 0x6D61726B65740005
    KEEP_GAPS = 0x6D61726B65740006
    JOIN_SAVED = 0x6D61726B65740007
