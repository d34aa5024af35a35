-- Every statement the service runs, by name. A block is a line "-- name: NAME", comment lines that
-- say what it does, and one statement. Times come in as integer microseconds wherever they were
-- copied as text: multiplying an interval by them is exact below 2^53, the year 2255.

-- name: stage_trades
-- Where a connection copies its batch to before the batch is inserted.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_trades (
    exchange text COLLATE "C",
    symbol text COLLATE "C",
    trade_id text COLLATE "C",
    time_us bigint,
    price numeric,
    amount numeric,
    side text COLLATE "C",
    received_us bigint
) ON COMMIT DELETE ROWS

-- name: stage_klines
-- As staging_trades, for versions of candles.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_klines (
    exchange text COLLATE "C",
    symbol text COLLATE "C",
    period text COLLATE "C",
    open_us bigint,
    open numeric,
    high numeric,
    low numeric,
    close numeric,
    volume numeric,
    quote_volume numeric,
    buy_volume numeric,
    buy_quote_volume numeric,
    trade_count bigint,
    first_trade_id text COLLATE "C",
    last_trade_id text COLLATE "C",
    complete boolean,
    revision integer,
    reason text COLLATE "C"
) ON COMMIT DELETE ROWS

-- name: stage_gaps
-- As staging_trades, for changes of gaps.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_gaps (
    exchange text COLLATE "C",
    symbol text COLLATE "C",
    after_id text COLLATE "C",
    before_id text COLLATE "C",
    detected_us bigint,
    from_us bigint,
    to_us bigint,
    missing bigint,
    state text COLLATE "C"
) ON COMMIT DELETE ROWS

-- name: lock_slots
-- $1 keys ascending, $2 whether each is taken alone. Live batches share the lock of a symbol's
-- slot, batches from REST take it alone: two batches that give one id two times then cannot both
-- miss the other's row. Taken in one order by everyone and before any row, so nobody deadlocks.
SELECT CASE
    WHEN alone THEN pg_advisory_xact_lock(key)::text
    ELSE pg_advisory_xact_lock_shared(key)::text
END
FROM unnest($1::bigint[], $2::boolean[]) AS slots(key, alone)

-- name: insert_trades
-- $1, $2: the batch's first and last time, one hour wider. An id that is stored within an hour of
-- its time is not stored again: the table's key must contain the time, and a venue's sources may
-- round it differently. LIMIT makes the probe a walk of the key's index per staged row, whatever
-- the planner thinks of the size of the staging table; the constant bounds let it open only the
-- partitions concerned. Rows go in sorted by key: two writers of the same rows then wait for each
-- other instead of deadlocking.
WITH probed AS (
    SELECT
        s.exchange, s.symbol, s.trade_id,
        timestamptz 'epoch' + s.time_us * interval '1 microsecond' AS time,
        s.price, s.amount, s.side,
        timestamptz 'epoch' + s.received_us * interval '1 microsecond' AS received_at,
        stored.time IS NOT NULL AS is_stored,
        stored.time <> timestamptz 'epoch' + s.time_us * interval '1 microsecond'
            OR stored.price <> s.price OR stored.amount <> s.amount AS is_conflicting
    FROM staging_trades AS s
    LEFT JOIN LATERAL (
        SELECT t.time, t.price, t.amount
        FROM market_trades AS t
        WHERE t.exchange = s.exchange AND t.symbol = s.symbol AND t.trade_id = s.trade_id
            AND t.time >= timestamptz 'epoch' + (s.time_us - 3600000000) * interval '1 microsecond'
            AND t.time <= timestamptz 'epoch' + (s.time_us + 3600000000) * interval '1 microsecond'
            AND t.time >= $1::timestamptz AND t.time <= $2::timestamptz
        LIMIT 1
    ) AS stored ON true
),
inserted AS (
    INSERT INTO market_trades
        (exchange, symbol, trade_id, time, price, amount, side, received_at)
    SELECT exchange, symbol, trade_id, time, price, amount, side, received_at
    FROM probed
    WHERE NOT is_stored
    ORDER BY exchange, symbol, trade_id, time
    ON CONFLICT DO NOTHING
    RETURNING exchange, symbol, time
),
noted AS (
    INSERT INTO market_symbol_deltas
        (exchange, symbol, trade_count, first_trade_at, last_trade_at)
    SELECT exchange, symbol, count(*), min(time), max(time)
    FROM inserted
    GROUP BY exchange, symbol
    RETURNING trade_count
)
SELECT
    (SELECT coalesce(sum(trade_count), 0)::bigint FROM noted) AS inserted,
    count(*) FILTER (WHERE is_conflicting) AS conflicting,
    count(*) AS staged
FROM probed

-- name: insert_kline_revisions
-- Keep every version that was not kept yet; returns how many those were.
WITH inserted AS (
    INSERT INTO market_kline_revisions
        (exchange, symbol, period, open_time, open, high, low, close, volume, quote_volume,
        buy_volume, buy_quote_volume, trade_count, first_trade_id, last_trade_id, complete,
        revision, reason)
    SELECT
        exchange, symbol, period, timestamptz 'epoch' + open_us * interval '1 microsecond',
        open, high, low, close, volume, quote_volume, buy_volume, buy_quote_volume, trade_count,
        first_trade_id, last_trade_id, complete, revision, reason
    FROM staging_klines
    ORDER BY exchange, symbol, period, open_us, revision
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) AS inserted FROM inserted

-- name: upsert_klines
-- Bring each candle to its newest version; an older version never replaces a newer one. One
-- statement may touch a row once only, so a batch is first collapsed to one version per candle.
WITH written AS (
    INSERT INTO market_klines AS t
        (exchange, symbol, period, open_time, open, high, low, close, volume, quote_volume,
        buy_volume, buy_quote_volume, trade_count, first_trade_id, last_trade_id, complete,
        revision, reason)
    SELECT DISTINCT ON (exchange, symbol, period, open_us)
        exchange, symbol, period, timestamptz 'epoch' + open_us * interval '1 microsecond',
        open, high, low, close, volume, quote_volume, buy_volume, buy_quote_volume, trade_count,
        first_trade_id, last_trade_id, complete, revision, reason
    FROM staging_klines
    ORDER BY exchange, symbol, period, open_us, revision DESC
    ON CONFLICT (exchange, symbol, period, open_time) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, quote_volume = excluded.quote_volume,
        buy_volume = excluded.buy_volume, buy_quote_volume = excluded.buy_quote_volume,
        trade_count = excluded.trade_count, first_trade_id = excluded.first_trade_id,
        last_trade_id = excluded.last_trade_id, complete = excluded.complete,
        revision = excluded.revision, reason = excluded.reason, updated_at = excluded.updated_at
    WHERE excluded.revision > t.revision
    RETURNING 1
)
SELECT count(*) AS inserted FROM written

-- name: upsert_gaps
-- Bring each gap to the furthest state anybody reported: open, unfillable, filled. Events may
-- come twice and in any order; a filled gap is never open again.
WITH staged AS (
    SELECT DISTINCT ON (exchange, symbol, after_id, before_id)
        exchange, symbol, after_id, before_id, missing, state,
        timestamptz 'epoch'
            + min(detected_us) OVER same * interval '1 microsecond' AS detected_at,
        timestamptz 'epoch' + from_us * interval '1 microsecond' AS from_time,
        timestamptz 'epoch' + to_us * interval '1 microsecond' AS to_time,
        CASE WHEN state = 'filled'
            THEN timestamptz 'epoch' + detected_us * interval '1 microsecond'
        END AS filled_at
    FROM staging_gaps
    WINDOW same AS (PARTITION BY exchange, symbol, after_id, before_id)
    ORDER BY exchange, symbol, after_id, before_id,
        array_position(ARRAY['filled', 'unfillable', 'open'], state), detected_us
),
written AS (
    INSERT INTO market_gaps AS t
        (exchange, symbol, detected_at, after_id, before_id, from_time, to_time, missing, state,
        filled_at)
    SELECT exchange, symbol, detected_at, after_id, before_id, from_time, to_time, missing, state,
        filled_at
    FROM staged
    ORDER BY exchange, symbol, after_id, before_id
    ON CONFLICT (exchange, symbol, after_id, before_id) DO UPDATE SET
        detected_at = least(t.detected_at, excluded.detected_at),
        from_time = coalesce(t.from_time, excluded.from_time),
        to_time = coalesce(t.to_time, excluded.to_time),
        missing = coalesce(t.missing, excluded.missing),
        state = excluded.state,
        filled_at = excluded.filled_at
    WHERE array_position(ARRAY['open', 'unfillable', 'filled'], excluded.state)
        > array_position(ARRAY['open', 'unfillable', 'filled'], t.state)
    RETURNING 1
)
SELECT count(*) AS inserted FROM written

-- name: ensure_partitions
-- $1 a table, $2 times: make the partitions that hold them.
SELECT market_ensure_partitions($1, $2::timestamptz[])

-- name: drop_before
-- $1 a table, $2 a time: drop the partitions that lie wholly before it.
SELECT market_drop_before($1, $2::timestamptz)

-- name: try_duty
-- $1 the key of a duty only one process does at a time; held until the transaction ends.
SELECT pg_try_advisory_xact_lock($1)

-- name: sum_symbols
-- Move what the batches noted into market_symbols; each note is counted exactly once.
WITH taken AS (
    DELETE FROM market_symbol_deltas
    RETURNING exchange, symbol, trade_count, first_trade_at, last_trade_at
)
INSERT INTO market_symbols AS t (exchange, symbol, trade_count, first_trade_at, last_trade_at)
SELECT exchange, symbol, sum(trade_count), min(first_trade_at), max(last_trade_at)
FROM taken
GROUP BY exchange, symbol
ORDER BY exchange, symbol
ON CONFLICT (exchange, symbol) DO UPDATE SET
    trade_count = t.trade_count + excluded.trade_count,
    first_trade_at = least(t.first_trade_at, excluded.first_trade_at),
    last_trade_at = greatest(t.last_trade_at, excluded.last_trade_at),
    updated_at = excluded.updated_at

-- name: upsert_instruments
-- $1 exchange, then arrays: what the venue lists, without touching the counts.
INSERT INTO market_symbols AS t
    (exchange, symbol, venue_symbol, base, quote, price_step, amount_step, volume_kind, state)
SELECT $1, symbol, venue_symbol, base, quote, price_step::numeric, amount_step::numeric,
    volume_kind, state
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[])
    AS u(symbol, venue_symbol, base, quote, price_step, amount_step, volume_kind, state)
ORDER BY symbol COLLATE "C"
ON CONFLICT (exchange, symbol) DO UPDATE SET
    venue_symbol = excluded.venue_symbol, base = excluded.base, quote = excluded.quote,
    price_step = excluded.price_step, amount_step = excluded.amount_step,
    volume_kind = excluded.volume_kind, state = excluded.state, updated_at = excluded.updated_at
