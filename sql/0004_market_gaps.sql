-- Holes in the trades, and what became of them.

CREATE TABLE market_gaps (
    exchange text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    detected_at timestamptz NOT NULL,
    after_id text COLLATE "C" NOT NULL,
    before_id text COLLATE "C" NOT NULL,
    from_time timestamptz,
    to_time timestamptz,
    missing bigint,
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'unfillable', 'filled')),
    filled_at timestamptz,
    PRIMARY KEY (exchange, symbol, after_id, before_id)
);

CREATE INDEX market_gaps_time ON market_gaps (exchange, symbol, from_time);

COMMENT ON TABLE market_gaps IS 'Holes in the sequence of trades';
COMMENT ON COLUMN market_gaps.exchange IS 'Configured exchange name';
COMMENT ON COLUMN market_gaps.symbol IS 'Base and quote, upper case; _ for a whole feed';
COMMENT ON COLUMN market_gaps.detected_at IS 'When the hole was first noticed';
COMMENT ON COLUMN market_gaps.after_id IS 'Last id before the hole; empty when unknown';
COMMENT ON COLUMN market_gaps.before_id IS 'First id behind the hole; empty when unknown';
COMMENT ON COLUMN market_gaps.from_time IS 'Time of the last trade before the hole';
COMMENT ON COLUMN market_gaps.to_time IS 'Time of the first trade behind the hole';
COMMENT ON COLUMN market_gaps.missing IS 'Ids between; null when the ids of the venue cannot tell';
COMMENT ON COLUMN market_gaps.state IS
    'open, unfillable or filled; a state is only ever followed by a later one of this list';
COMMENT ON COLUMN market_gaps.filled_at IS 'When it was filled';
