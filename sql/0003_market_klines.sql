-- Closed candles: the newest version of each, and every version there ever was.

CREATE TABLE market_klines (
    exchange text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    period text COLLATE "C" NOT NULL,
    open_time timestamptz NOT NULL,
    open numeric NOT NULL,
    high numeric NOT NULL,
    low numeric NOT NULL,
    close numeric NOT NULL,
    volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    buy_volume numeric NOT NULL,
    buy_quote_volume numeric NOT NULL,
    trade_count bigint NOT NULL,
    first_trade_id text COLLATE "C",
    last_trade_id text COLLATE "C",
    complete boolean NOT NULL,
    revision integer NOT NULL,
    reason text COLLATE "C" NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, symbol, period, open_time)
);

COMMENT ON COLUMN market_klines.exchange IS 'Configured exchange name; sim- before simulated ones';
COMMENT ON COLUMN market_klines.symbol IS 'Base and quote, upper case: BTCUSDT';
COMMENT ON COLUMN market_klines.period IS '1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 1w';
COMMENT ON COLUMN market_klines.open_time IS
    'Start of the window, inclusive; UTC grid, weeks start on Monday';
COMMENT ON COLUMN market_klines.open IS 'Price of the first trade by id';
COMMENT ON COLUMN market_klines.high IS 'Highest price';
COMMENT ON COLUMN market_klines.low IS 'Lowest price';
COMMENT ON COLUMN market_klines.close IS 'Price of the last trade by id';
COMMENT ON COLUMN market_klines.volume IS 'Sum of amounts, base units';
COMMENT ON COLUMN market_klines.quote_volume IS 'Sum of price times amount, exact';
COMMENT ON COLUMN market_klines.buy_volume IS 'Volume of trades with a buying taker';
COMMENT ON COLUMN market_klines.buy_quote_volume IS 'Quote volume of trades with a buying taker';
COMMENT ON COLUMN market_klines.trade_count IS 'Trades in the window; 0 for a flat candle';
COMMENT ON COLUMN market_klines.first_trade_id IS 'Id of the first trade; null for a flat candle';
COMMENT ON COLUMN market_klines.last_trade_id IS 'Id of the last trade; null for a flat candle';
COMMENT ON COLUMN market_klines.complete IS
    'Nothing was known to be missing when this version was made';
COMMENT ON COLUMN market_klines.revision IS 'Number of the version, from 1; a greater one replaces';
COMMENT ON COLUMN market_klines.reason IS
    'Why this version exists: close, late, gap, repair, recompute';
COMMENT ON COLUMN market_klines.updated_at IS 'When this version was stored';

-- Same columns, one row per version.
CREATE TABLE market_kline_revisions (
    LIKE market_klines INCLUDING DEFAULTS INCLUDING COMMENTS,
    PRIMARY KEY (exchange, symbol, period, open_time, revision)
);

CREATE INDEX market_klines_updated_at ON market_klines (updated_at);

SELECT market_split_by_time('market_klines', 'open_time', interval '30 days');
SELECT market_split_by_time('market_kline_revisions', 'open_time', interval '30 days');

COMMENT ON TABLE market_klines IS 'Closed candles, newest version';
COMMENT ON TABLE market_kline_revisions IS 'Closed candles, every version ever published';

CREATE VIEW aggregated_data AS
SELECT
    symbol AS pair_name,
    exchange,
    open_time AS timestamp,
    CASE WHEN volume = 0 THEN close ELSE quote_volume / volume END AS average_price,
    low AS min_price,
    high AS max_price
FROM market_klines
WHERE period = '1m';

COMMENT ON VIEW aggregated_data IS 'One row per minute: the 1m candles under other names';
COMMENT ON COLUMN aggregated_data.pair_name IS 'The symbol';
COMMENT ON COLUMN aggregated_data.exchange IS 'Configured exchange name';
COMMENT ON COLUMN aggregated_data.timestamp IS 'Start of the minute';
COMMENT ON COLUMN aggregated_data.average_price IS 'Weighted by volume; the close of a flat candle';
COMMENT ON COLUMN aggregated_data.min_price IS 'Lowest price';
COMMENT ON COLUMN aggregated_data.max_price IS 'Highest price';
