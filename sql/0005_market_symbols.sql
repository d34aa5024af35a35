-- One row per instrument, and the ledger its counts are summed from.

CREATE TABLE market_symbols (
    exchange text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    venue_symbol text,
    base text,
    quote text,
    price_step numeric,
    amount_step numeric,
    volume_kind text,
    trade_count bigint NOT NULL DEFAULT 0,
    first_trade_at timestamptz,
    last_trade_at timestamptz,
    state text NOT NULL DEFAULT 'active',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, symbol)
);

COMMENT ON TABLE market_symbols IS 'Instruments and what is stored of them';
COMMENT ON COLUMN market_symbols.exchange IS 'Configured exchange name';
COMMENT ON COLUMN market_symbols.symbol IS 'Our one spelling, unique within the exchange';
COMMENT ON COLUMN market_symbols.venue_symbol IS 'The name the venue uses: BTC/USD; null when unknown';
COMMENT ON COLUMN market_symbols.base IS 'Code of what is traded';
COMMENT ON COLUMN market_symbols.quote IS 'Code of what is paid';
COMMENT ON COLUMN market_symbols.price_step IS 'Tick size; null where the venue gives none';
COMMENT ON COLUMN market_symbols.amount_step IS 'Lot size; null where the venue gives none';
COMMENT ON COLUMN market_symbols.volume_kind IS
    'What amounts mean: base (traded units) or updates (a feed without amounts)';
COMMENT ON COLUMN market_symbols.trade_count IS 'Rows ever inserted; retention does not lower it';
COMMENT ON COLUMN market_symbols.first_trade_at IS 'Oldest trade time ever stored';
COMMENT ON COLUMN market_symbols.last_trade_at IS 'Newest trade time ever stored';
COMMENT ON COLUMN market_symbols.state IS 'active or inactive, as the venue lists it';
COMMENT ON COLUMN market_symbols.updated_at IS 'When this row last changed';

-- Each batch appends what it inserted; one saver adds it up every few seconds. Updating
-- market_symbols in every batch would make its rows a queue for all savers.
CREATE TABLE market_symbol_deltas (
    exchange text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    trade_count bigint NOT NULL,
    first_trade_at timestamptz NOT NULL,
    last_trade_at timestamptz NOT NULL
);

COMMENT ON TABLE market_symbol_deltas IS 'Rows inserted and not yet added to market_symbols';
COMMENT ON COLUMN market_symbol_deltas.exchange IS 'Configured exchange name';
COMMENT ON COLUMN market_symbol_deltas.symbol IS 'Symbol';
COMMENT ON COLUMN market_symbol_deltas.trade_count IS 'Rows one batch inserted';
COMMENT ON COLUMN market_symbol_deltas.first_trade_at IS 'Oldest trade time among them';
COMMENT ON COLUMN market_symbol_deltas.last_trade_at IS 'Newest trade time among them';
