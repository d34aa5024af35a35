-- Every trade, once. Text keys are COLLATE "C" so that SQL and the rest of the service order ids
-- alike: length(trade_id), trade_id is numeric order without a number type.

CREATE TABLE market_trades (
    exchange text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    trade_id text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    price numeric NOT NULL,
    amount numeric NOT NULL,
    side text COLLATE "C",
    received_at timestamptz NOT NULL
);

CREATE INDEX market_trades_symbol_time ON market_trades (symbol, time DESC);
-- Pages and windows in the venue's order, also within one millisecond of 700 trades.
CREATE INDEX market_trades_order ON market_trades
    (exchange, symbol, time DESC, length(trade_id) DESC, trade_id DESC);
-- The key must contain the column the table is split by. That an id has one row although two
-- sources may give it two times is the saver's work. It is made last: between indexes of equal
-- cost the planner takes the youngest, and on a day without statistics all cost the same. Its
-- name is the last as well, so that it stays the youngest in a restored dump.
CREATE UNIQUE INDEX market_trades_unique ON market_trades (exchange, symbol, trade_id, time);

COMMENT ON COLUMN market_trades.exchange IS 'Configured exchange name; sim- before simulated ones';
COMMENT ON COLUMN market_trades.symbol IS 'Base and quote, upper case: BTCUSDT';
COMMENT ON COLUMN market_trades.trade_id IS
    'Id of the venue, 1 to 19 digits, unique within exchange and symbol; ordered by length, then text';
COMMENT ON COLUMN market_trades.time IS
    'Trade time of the venue; where its sources differ, the one stored first';
COMMENT ON COLUMN market_trades.price IS 'Quote units per base unit, digits as the venue sent them';
COMMENT ON COLUMN market_trades.amount IS 'Base units, digits as the venue sent them';
COMMENT ON COLUMN market_trades.side IS 'Side of the taker, buy or sell; null where the venue gives none';
COMMENT ON COLUMN market_trades.received_at IS 'When the batch with this trade was read from the venue';

SELECT market_split_by_time('market_trades', 'time', interval '1 day');

COMMENT ON TABLE market_trades IS 'Trades; one row per exchange, symbol and trade_id';
