-- Every statement the service runs, by name. A block is a line "-- name: NAME", comment lines that
-- say what it does, and one statement. Times come in as integer microseconds wherever they were
-- copied as text: multiplying an interval by them is exact below 2^53, the year 2255.

-- name: stage_trades
-- Where a connection copies its batch to before the batch is inserted.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_trades (
    exchange text COLLATE "C",
    symbol text COLLATE "C",
    trade_id text COLLATE "C",
    time timestamptz,
    price numeric,
    amount numeric,
    side text COLLATE "C",
    received_at timestamptz
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

-- name: any_stored
-- $1, $2: as for insert_trades. $3 to $6: by exchange, symbol and length of the id, the batch's
-- first and last id. Whether an id between them is stored: one walk of the key's index each, where
-- insert_trades makes one for every row. True may be wrong: longer ids lie between shorter ones.
SELECT EXISTS (
    SELECT
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
        AS span(exchange, symbol, first_id, last_id)
    CROSS JOIN LATERAL (
        SELECT
        FROM market_trades AS t
        WHERE t.exchange = span.exchange AND t.symbol = span.symbol
            AND t.trade_id >= span.first_id AND t.trade_id <= span.last_id
            AND t.time >= $1::timestamptz AND t.time <= ANY (ARRAY[$2::timestamptz])
        LIMIT 1
    ) AS stored
)

-- name: note_trades
-- Count rows that were copied into market_trades, as insert_trades does for those it inserts.
INSERT INTO market_symbol_deltas
    (exchange, symbol, trade_count, first_trade_at, last_trade_at)
SELECT *
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])

-- name: insert_trades
-- Insert the staged rows that are not stored, whatever is.
-- $1, $2: the batch's first and last time, one hour wider. An id that is stored within an hour of
-- its time is not stored again: the table's key must contain the time, and a venue's sources may
-- round it differently. LIMIT makes the probe a walk of the key's index per staged row, whatever
-- the planner thinks of the size of the staging table. The constant bounds let it open only the
-- partitions concerned; ANY keeps the planner from reading them as one narrow range, for which,
-- without statistics, the smaller index of time would look cheaper. OFFSET keeps the hour of each
-- row away from the scan: TimescaleDB would ask for every row anew which chunks it concerns.
-- Rows go in sorted by key: two writers of the same rows then wait for each other instead of
-- deadlocking.
WITH probed AS (
    SELECT
        s.exchange, s.symbol, s.trade_id,
        s.time, s.price, s.amount, s.side, s.received_at,
        stored.time IS NOT NULL AS is_stored,
        stored.time <> s.time OR stored.price <> s.price OR stored.amount <> s.amount AS is_conflicting
    FROM staging_trades AS s
    LEFT JOIN LATERAL (
        SELECT known.time, known.price, known.amount
        FROM (
            SELECT t.time, t.price, t.amount
            FROM market_trades AS t
            WHERE t.exchange = s.exchange AND t.symbol = s.symbol AND t.trade_id = s.trade_id
                AND t.time >= $1::timestamptz AND t.time <= ANY (ARRAY[$2::timestamptz])
            OFFSET 0
        ) AS known
        WHERE known.time >= s.time - interval '1 hour'
            AND known.time <= s.time + interval '1 hour'
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

-- name: unsettled_gaps
-- $1-$5 the last row before (its time and key; a time in the far future for the first page), $6 a
-- time, $7 a time, $8 limit: gaps over trades not older than $6 that are not filled, the newest
-- first. Open ones only if they were noticed before $7. Ids must be 64-bit integers with room
-- between; where the venue's ids prove nothing, ``missing`` is null.
SELECT exchange, symbol, after_id, before_id, missing, from_time, to_time
FROM market_gaps
WHERE state <> 'filled' AND from_time >= $6
    AND (from_time, exchange, symbol, after_id, before_id)
        < ($1, $2::text, $3::text, $4::text, $5::text)
    AND (state = 'unfillable' OR detected_at < $7)
    AND to_time IS NOT NULL AND missing IS NOT NULL
    AND CASE WHEN after_id ~ '^[0-9]{1,19}$' AND before_id ~ '^[0-9]{1,19}$'
        THEN after_id::numeric + 1 < before_id::numeric
            AND before_id::numeric <= 9223372036854775807
        ELSE false
    END
ORDER BY from_time DESC, exchange DESC, symbol DESC, after_id DESC, before_id DESC
LIMIT $8

-- name: first_missing
-- $1 exchange, $2 symbol, $3 and $4 the first and the last of some ids, $5 and $6 the times between
-- which they must lie: the lowest of them that is not stored. Looked up as in insert_trades; ids
-- become text beforehand, because the planner would charge the key's index for it.
SELECT min(wanted.id)
FROM (
    SELECT id, id::text COLLATE "C" AS trade_id
    FROM generate_series($3::bigint, $4::bigint) AS ids(id)
    OFFSET 0
) AS wanted
LEFT JOIN LATERAL (
    SELECT known.time
    FROM (
        SELECT t.time
        FROM market_trades AS t
        WHERE t.exchange = $1 AND t.symbol = $2 AND t.trade_id = wanted.trade_id
            AND t.time >= $5::timestamptz AND t.time <= ANY (ARRAY[$6::timestamptz])
        OFFSET 0
    ) AS known
    LIMIT 1
) AS stored ON true
WHERE stored.time IS NULL

-- name: ensure_partitions
-- $1 a table, $2 times: make the partitions that hold them.
SELECT market_ensure_partitions($1, $2::timestamptz[])

-- name: drop_before
-- $1 a table, $2 a time: drop the partitions that lie wholly before it.
SELECT market_drop_before($1, $2::timestamptz)

-- name: set_retention
-- $1 a table, $2 an interval or null: let TimescaleDB drop what is older, where its licence can.
SELECT market_set_retention($1, $2::interval)

-- name: set_columnstore
-- $1 a table, $2 an interval or null: let TimescaleDB turn what is older into columns.
SELECT market_set_columnstore($1, $2::interval)

-- name: await_duty
-- $1 the key of a duty: wait until nobody does it; held until the transaction ends.
SELECT pg_advisory_xact_lock($1)

-- name: try_duty
-- $1 the key of a duty only one process does at a time; held until the transaction ends.
SELECT pg_try_advisory_xact_lock($1)

-- name: note_saved
-- $1 a stream, $2 when it was made, $3 and $4 behind which and through which sequences all is saved, $5
-- when the last of each was stored: part of the transaction that saves it.
INSERT INTO market_saved_notes (stream, created, since, through, stored_at)
VALUES ($1, $2, $3::bigint[], $4::bigint[], $5::timestamptz[])
RETURNING 1

-- name: doubt_saved
-- $1 a stream, $2 when it was made, $3 a sequence, $4 when that was stored: it took the place of another
-- message, so a stretch that has it and is older speaks of what the stream has lost.
WITH gone AS (
    DELETE FROM market_saved
    WHERE stream = $1 AND created = $2 AND since < $3 AND through >= $3 AND stored_at < $4
)
SELECT 1

-- name: take_notes
DELETE FROM market_saved_notes RETURNING stream, created, since, through, stored_at

-- name: drop_saved
-- $1 streams, $2 behind which sequences stretches of them begin.
DELETE FROM market_saved AS known
USING unnest($1::text[], $2::bigint[]) AS gone (stream, since)
WHERE (known.stream, known.since) = (gone.stream, gone.since)

-- name: add_saved
-- $1 to $5 a stretch each: its stream, when that was made, behind and through which sequences, and when the
-- last of it was stored.
INSERT INTO market_saved (stream, created, since, through, stored_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])

-- name: cut_saved
-- $1 a stream, $2 when it was made, $3 its last sequence: nothing behind it is saved.
WITH gone AS (
    DELETE FROM market_saved WHERE stream = $1 AND created = $2 AND since >= $3
)
UPDATE market_saved SET through = $3, updated_at = now()
WHERE stream = $1 AND created = $2 AND since < $3 AND through > $3

-- name: saved
SELECT stream, created, since, through, stored_at FROM market_saved ORDER BY stream, since

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
WHERE (t.venue_symbol, t.base, t.quote, t.price_step, t.amount_step, t.volume_kind, t.state)
    IS DISTINCT FROM (excluded.venue_symbol, excluded.base, excluded.quote, excluded.price_step,
        excluded.amount_step, excluded.volume_kind, excluded.state)

-- name: holds
-- Whether anything at all is stored.
SELECT EXISTS (SELECT FROM market_trades) AS trades, EXISTS (SELECT FROM market_klines) AS candles

-- name: window_trades
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): trades in the venue's order.
SELECT trade_id, time, price, amount, side
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4
ORDER BY length(trade_id), trade_id

-- name: minutes
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): the minutes that have trades or a candle.
SELECT date_trunc('minute', time) AS minute
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4
UNION
SELECT open_time
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period = '1m' AND open_time >= $3 AND open_time < $4

-- name: traded
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): the minutes that have trades.
SELECT DISTINCT date_trunc('minute', time) AS minute
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4

-- name: price_before
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): close of the newest 1m candle, one with trades
-- before one without.
SELECT close
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period = '1m' AND open_time >= $3 AND open_time < $4
ORDER BY trade_count > 0 DESC, open_time DESC
LIMIT 1

-- name: unlike
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive), $5 a price: minutes whose 1m candle is missing
-- or says another price, ascending, up to the first with trades, which is told as well.
SELECT minute, coalesce(k.trade_count > 0, false) AS has_trades
FROM generate_series($3::timestamptz, coalesce((
    SELECT traded.open_time
    FROM market_klines AS traded
    WHERE traded.exchange = $1 AND traded.symbol = $2 AND traded.period = '1m'
        AND traded.open_time >= $3 AND traded.open_time < $4 AND traded.trade_count > 0
    ORDER BY traded.open_time
    LIMIT 1
), $4::timestamptz - interval '1 minute'), interval '1 minute') AS minute
LEFT JOIN market_klines AS k
    ON k.exchange = $1 AND k.symbol = $2 AND k.period = '1m' AND k.open_time = minute
    AND k.open_time >= $3 AND k.open_time < $4
WHERE k.open_time IS NULL OR k.trade_count > 0 OR k.close <> $5
ORDER BY minute

-- name: unclosed
-- Symbols whose newest trade's minute has no candle, with that trade's time.
SELECT newest.exchange, newest.symbol, newest.at AS newest
FROM (
    SELECT exchange, symbol, max(last_trade_at) AS at
    FROM (
        SELECT exchange, symbol, last_trade_at FROM market_symbols
        UNION ALL
        SELECT exchange, symbol, last_trade_at FROM market_symbol_deltas
    ) AS noted
    WHERE last_trade_at IS NOT NULL
    GROUP BY exchange, symbol
) AS newest
WHERE NOT EXISTS (
    SELECT
    FROM market_klines AS k
    WHERE k.exchange = newest.exchange AND k.symbol = newest.symbol AND k.period = '1m'
        AND k.open_time = date_trunc('minute', newest.at)
)

-- name: missing_ids
-- $1 exchange, $2 symbol, $3 and $4 ids of a venue whose ids grow by one, $5 and $6 their times, $7
-- limit: the first stretches of ids between the two that are not stored, with what is on both sides.
WITH present AS (
    SELECT trade_id::bigint AS id, time
    FROM market_trades
    WHERE exchange = $1 AND symbol = $2
        AND time >= $5::timestamptz - interval '1 hour'
        AND time <= $6::timestamptz + interval '1 hour'
    UNION ALL
    VALUES ($3::bigint, $5::timestamptz), ($4::bigint, $6::timestamptz)
),
steps AS (
    SELECT id, time, lead(id) OVER ascending AS next_id, lead(time) OVER ascending AS next_time
    FROM present
    WHERE id BETWEEN $3 AND $4
    WINDOW ascending AS (ORDER BY id)
)
SELECT id, next_id, time, next_time
FROM steps
WHERE next_id > id + 1
ORDER BY id
LIMIT $7

-- name: window_klines
-- $1 exchange, $2 symbol, $3 period, $4 from, $5 to (exclusive), $6 limit: oldest first. Numbers
-- leave as plain text without trailing zeros, the one spelling of each.
SELECT exchange, symbol, period, open_time,
    trim_scale(open)::text AS open, trim_scale(high)::text AS high,
    trim_scale(low)::text AS low, trim_scale(close)::text AS close,
    trim_scale(volume)::text AS volume, trim_scale(quote_volume)::text AS quote_volume,
    trim_scale(buy_volume)::text AS buy_volume,
    trim_scale(buy_quote_volume)::text AS buy_quote_volume,
    trade_count, first_trade_id, last_trade_id, complete, revision, reason, updated_at
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period = $3 AND open_time >= $4 AND open_time < $5
ORDER BY open_time
LIMIT $6

-- name: window_klines_newest
-- As window_klines, newest first.
SELECT exchange, symbol, period, open_time,
    trim_scale(open)::text AS open, trim_scale(high)::text AS high,
    trim_scale(low)::text AS low, trim_scale(close)::text AS close,
    trim_scale(volume)::text AS volume, trim_scale(quote_volume)::text AS quote_volume,
    trim_scale(buy_volume)::text AS buy_volume,
    trim_scale(buy_quote_volume)::text AS buy_quote_volume,
    trade_count, first_trade_id, last_trade_id, complete, revision, reason, updated_at
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period = $3 AND open_time >= $4 AND open_time < $5
ORDER BY open_time DESC
LIMIT $6

-- name: kline_revisions
-- $1 exchange, $2 symbol, $3 period, $4 open time: every version, first to last.
SELECT exchange, symbol, period, open_time,
    trim_scale(open)::text AS open, trim_scale(high)::text AS high,
    trim_scale(low)::text AS low, trim_scale(close)::text AS close,
    trim_scale(volume)::text AS volume, trim_scale(quote_volume)::text AS quote_volume,
    trim_scale(buy_volume)::text AS buy_volume,
    trim_scale(buy_quote_volume)::text AS buy_quote_volume,
    trade_count, first_trade_id, last_trade_id, complete, revision, reason, updated_at
FROM market_kline_revisions
WHERE exchange = $1 AND symbol = $2 AND period = $3 AND open_time = $4
ORDER BY revision

-- name: deciding_trades
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive), $5 first id, $6 last id, $7 high, $8 low of
-- a candle: the trades that decide it. Of several at the highest or lowest price the first
-- counts. Its minute is found among the candles, so that a week costs little more than a minute.
WITH extremes AS MATERIALIZED (
    SELECT (
        SELECT open_time FROM market_klines
        WHERE exchange = $1 AND symbol = $2 AND period = '1m' AND open_time >= $3
            AND open_time < $4 AND high = $7::text::numeric AND trade_count > 0
        ORDER BY open_time LIMIT 1
    ) AS high_at, (
        SELECT open_time FROM market_klines
        WHERE exchange = $1 AND symbol = $2 AND period = '1m' AND open_time >= $3
            AND open_time < $4 AND low = $8::text::numeric AND trade_count > 0
        ORDER BY open_time LIMIT 1
    ) AS low_at
),
found AS (
    (SELECT 'open' AS decides, t.* FROM market_trades AS t
    WHERE exchange = $1 AND symbol = $2 AND trade_id = $5 AND time >= $3 AND time < $4 LIMIT 1)
    UNION ALL
    (SELECT 'high', t.* FROM market_trades AS t
    WHERE exchange = $1 AND symbol = $2 AND price = $7::text::numeric AND time >= $3 AND time < $4
        AND time >= coalesce((SELECT high_at FROM extremes), $3)
        AND time < coalesce((SELECT high_at + interval '1 minute' FROM extremes), $4)
    ORDER BY length(trade_id), trade_id LIMIT 1)
    UNION ALL
    (SELECT 'low', t.* FROM market_trades AS t
    WHERE exchange = $1 AND symbol = $2 AND price = $8::text::numeric AND time >= $3 AND time < $4
        AND time >= coalesce((SELECT low_at FROM extremes), $3)
        AND time < coalesce((SELECT low_at + interval '1 minute' FROM extremes), $4)
    ORDER BY length(trade_id), trade_id LIMIT 1)
    UNION ALL
    (SELECT 'close', t.* FROM market_trades AS t
    WHERE exchange = $1 AND symbol = $2 AND trade_id = $6 AND time >= $3 AND time < $4 LIMIT 1)
)
SELECT decides, exchange, symbol, trade_id, time, price::text AS price, amount::text AS amount,
    side, received_at
FROM found

-- name: trades_page
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive), $5-$7 the last row of the page before (its
-- time, length of id and id; a time in the far future for the first page), $8 limit: newest first.
SELECT exchange, symbol, trade_id, time, price::text AS price, amount::text AS amount, side,
    received_at
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4 AND time <= $5
    AND (time, length(trade_id), trade_id) < ($5, $6, $7)
ORDER BY time DESC, length(trade_id) DESC, trade_id DESC
LIMIT $8

-- name: trades_page_any
-- As trades_page over several exchanges: $1 is an array, $9 the exchange of the last row before.
SELECT exchange, symbol, trade_id, time, price::text AS price, amount::text AS amount, side,
    received_at
FROM market_trades
WHERE exchange = ANY ($1::text[]) AND symbol = $2 AND time >= $3 AND time < $4 AND time <= $5
    AND (time, length(trade_id), trade_id, exchange) < ($5, $6, $7, $9::text)
ORDER BY time DESC, length(trade_id) DESC, trade_id DESC, exchange DESC
LIMIT $8

-- name: trades_from
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive), $5 length of id and $6 id of the first trade
-- wanted among those of $3, $7 length of id and $8 id below which none is wanted, $9 limit: oldest
-- first.
SELECT exchange, symbol, trade_id, time, price::text AS price, amount::text AS amount, side,
    received_at
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4
    AND (time, length(trade_id), trade_id) >= ($3, $5, $6)
    AND (length(trade_id), trade_id) >= ($7, $8)
ORDER BY time, length(trade_id), trade_id
LIMIT $9

-- name: trade_by_id
-- $1 exchange, $2 symbol, $3 id, $4 from, $5 to (exclusive): one trade.
SELECT exchange, symbol, trade_id, time, price::text AS price, amount::text AS amount, side,
    received_at
FROM market_trades
WHERE exchange = $1 AND symbol = $2 AND trade_id = $3 AND time >= $4 AND time < $5
LIMIT 1

-- name: range_klines
-- $1 exchange, $2 symbol, $3 period, $4 starts and $5 ends (exclusive) of ranges, $6 and $7 the
-- first start and the last end, $8 limit: candles that open in any of the ranges, in no order.
SELECT exchange, symbol, period, open_time,
    trim_scale(open)::text AS open, trim_scale(high)::text AS high,
    trim_scale(low)::text AS low, trim_scale(close)::text AS close,
    trim_scale(volume)::text AS volume, trim_scale(quote_volume)::text AS quote_volume,
    trim_scale(buy_volume)::text AS buy_volume,
    trim_scale(buy_quote_volume)::text AS buy_quote_volume,
    trade_count, first_trade_id, last_trade_id, complete, revision, reason, updated_at
FROM unnest($4::timestamptz[], $5::timestamptz[]) AS ranges(start, finish)
JOIN market_klines ON open_time >= start AND open_time < finish
WHERE exchange = $1 AND symbol = $2 AND period = $3 AND open_time >= $6 AND open_time < $7
LIMIT $8

-- name: range_trades
-- $1 exchange, $2 symbol, $3 starts (exclusive) and $4 ends (inclusive) of ranges, which do not
-- overlap, $5 and $6 the first start and the last end, then trades that may not be stored yet, in
-- any of the ranges: $7 ids, $8 times in microseconds, $9 prices, $10 amounts, $11 and $12 an hour
-- before the earliest of them and behind the latest. Sums up those stored and, once, those that are
-- not; these are looked up as in insert_trades.
WITH traded AS (
    SELECT t.trade_id, t.price, t.amount
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS ranges(start, finish)
    JOIN market_trades AS t ON t.time > start AND t.time <= finish
    WHERE t.exchange = $1 AND t.symbol = $2 AND t.time > $5 AND t.time <= $6
    UNION ALL
    SELECT held.trade_id, held.price::numeric, held.amount::numeric
    FROM unnest($7::text[], $8::bigint[], $9::text[], $10::text[])
        AS held(trade_id, time_us, price, amount)
    LEFT JOIN LATERAL (
        SELECT known.time
        FROM (
            SELECT t.time
            FROM market_trades AS t
            WHERE t.exchange = $1 AND t.symbol = $2 AND t.trade_id = held.trade_id
                AND t.time >= $11::timestamptz AND t.time <= ANY (ARRAY[$12::timestamptz])
            OFFSET 0
        ) AS known
        WHERE known.time
                >= timestamptz 'epoch' + (held.time_us - 3600000000) * interval '1 microsecond'
            AND known.time
                <= timestamptz 'epoch' + (held.time_us + 3600000000) * interval '1 microsecond'
        LIMIT 1
    ) AS stored ON true
    WHERE stored.time IS NULL
)
SELECT count(*) AS trade_count, min(trade_id::bigint) AS first_id, max(trade_id::bigint) AS last_id,
    coalesce(sum(amount), 0) AS volume, coalesce(sum(price * amount), 0) AS quote_volume,
    min(price) AS low, max(price) AS high, coalesce(sum(price), 0) AS price_sum
FROM traded

-- name: minute_marks
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): as much of the 1m candles as tells whether
-- anything is missing, oldest first.
SELECT open_time, complete, reason, first_trade_id, last_trade_id
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period = '1m' AND open_time >= $3 AND open_time < $4
ORDER BY open_time

-- name: complete_windows
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): complete candles longer than a minute that
-- may reach into the range.
SELECT period, open_time
FROM market_klines
WHERE exchange = $1 AND symbol = $2 AND period <> '1m' AND complete
    AND open_time >= $3::timestamptz - interval '7 days' AND open_time < $4

-- name: gap_spans
-- $1 exchange, $2 symbol, $3 from, $4 to (exclusive): holes that touch the range, those of a
-- whole feed included, the earliest first, 5,000 at most.
SELECT coalesce(from_time, to_time, detected_at) AS start,
    coalesce(to_time, from_time, detected_at) AS finish, state
FROM market_gaps
WHERE exchange = $1 AND symbol IN ($2, '_')
    AND coalesce(to_time, from_time, detected_at) >= $3
    AND coalesce(from_time, to_time, detected_at) < $4
ORDER BY 1
LIMIT 5000

-- name: gaps
-- $1 exchange or null, $2 symbol or null, $3 from, $4 to (exclusive), $5 state or null, $6-$10 the
-- last row of the page before (a time in the far future for the first page), $11 limit: gaps that
-- touch the range, newest first. One without times counts by when it was noticed.
SELECT exchange, symbol, detected_at, after_id, before_id, from_time, to_time, missing, state,
    filled_at
FROM market_gaps
WHERE ($1::text IS NULL OR exchange = $1) AND ($2::text IS NULL OR symbol = $2)
    AND ($5::text IS NULL OR state = $5)
    AND coalesce(to_time, from_time, detected_at) >= $3
    AND coalesce(from_time, to_time, detected_at) < $4
    AND (detected_at, exchange, symbol, after_id, before_id)
        < ($6, $7::text, $8::text, $9::text, $10::text)
ORDER BY detected_at DESC, exchange DESC, symbol DESC, after_id DESC, before_id DESC
LIMIT $11

-- name: symbols
-- Everything ever seen.
SELECT exchange, symbol, venue_symbol, base, quote, trim_scale(price_step)::text AS price_step,
    trim_scale(amount_step)::text AS amount_step, volume_kind, trade_count, first_trade_at,
    last_trade_at, state, updated_at
FROM market_symbols
ORDER BY exchange, symbol

-- name: verify_instruments
-- $1 exchange or null, $2 symbol or null: what has trades or candles. Jumps from one instrument to
-- the next along the indexes instead of reading every row.
WITH RECURSIVE traded AS (
    (SELECT exchange, symbol FROM market_trades ORDER BY exchange, symbol LIMIT 1)
    UNION ALL
    SELECT following.exchange, following.symbol
    FROM traded
    CROSS JOIN LATERAL (
        SELECT t.exchange, t.symbol
        FROM market_trades AS t
        WHERE (t.exchange, t.symbol) > (traded.exchange, traded.symbol)
        ORDER BY t.exchange, t.symbol
        LIMIT 1
    ) AS following
)
SELECT exchange, symbol
FROM (
    SELECT exchange, symbol FROM traded
    UNION
    SELECT exchange, symbol FROM market_klines
) AS instruments
WHERE ($1::text IS NULL OR exchange = $1) AND ($2::text IS NULL OR symbol = $2)
ORDER BY exchange, symbol

-- name: verify_first
-- $1 exchange, $2 symbol: the oldest time there is something to compare.
SELECT least(
    (SELECT min(time) FROM market_trades WHERE exchange = $1 AND symbol = $2),
    (SELECT min(open_time) FROM market_klines WHERE exchange = $1 AND symbol = $2)
)

-- name: verify_candles
-- $1 exchange, $2 symbol, $3 from and $4 to (exclusive), both Mondays 00:00 UTC; $5 names and $6
-- lengths of periods; windows must open at $7 or later and end at $8 or earlier. Folds the trades
-- once to minutes and those to every period; returns how many candles were compared with
-- market_klines and those that differ. A flat candle over no trades is none of them.
--
-- The first and the last trade are found in one pass: a letter for the length, the id and the
-- price make a text that sorts by length and id. All windows fit into weeks that start on Monday.
WITH minutes AS (
    SELECT date_bin('1 minute', time, timestamptz '1970-01-05 00:00:00+00') AS minute,
        min((chr(64 + length(trade_id)) || trade_id || ' ' || price) COLLATE "C") AS first,
        max((chr(64 + length(trade_id)) || trade_id || ' ' || price) COLLATE "C") AS last,
        max(price) AS high, min(price) AS low,
        sum(amount) AS volume, sum(price * amount) AS quote_volume,
        coalesce(sum(amount) FILTER (WHERE side = 'buy'), 0) AS buy_volume,
        coalesce(sum(price * amount) FILTER (WHERE side = 'buy'), 0) AS buy_quote_volume,
        count(*) AS trade_count
    FROM market_trades
    WHERE exchange = $1 AND symbol = $2 AND time >= $3 AND time < $4
    GROUP BY 1
),
folded AS (
    SELECT period, opened AS open_time, min(first) AS first, max(last) AS last,
        max(high) AS high, min(low) AS low, sum(volume) AS volume,
        sum(quote_volume) AS quote_volume, sum(buy_volume) AS buy_volume,
        sum(buy_quote_volume) AS buy_quote_volume, sum(trade_count)::bigint AS trade_count
    FROM minutes
    CROSS JOIN unnest($5::text[], $6::interval[]) AS periods(period, length)
    CROSS JOIN LATERAL (
        SELECT date_bin(length, minute, timestamptz '1970-01-05 00:00:00+00') AS opened
    ) AS windows
    WHERE opened >= $7 AND opened + length <= $8
    GROUP BY period, opened
),
expected AS (
    SELECT period, open_time,
        split_part(first, ' ', 2)::numeric AS open, high, low,
        split_part(last, ' ', 2)::numeric AS close,
        volume, quote_volume, buy_volume, buy_quote_volume, trade_count,
        substr(split_part(first, ' ', 1), 2) AS first_trade_id,
        substr(split_part(last, ' ', 1), 2) AS last_trade_id
    FROM folded
),
actual AS (
    SELECT k.period, open_time, open, high, low, close, volume, quote_volume, buy_volume,
        buy_quote_volume, trade_count, first_trade_id, last_trade_id
    FROM market_klines AS k
    JOIN unnest($5::text[], $6::interval[]) AS periods(period, length) ON periods.period = k.period
    WHERE exchange = $1 AND symbol = $2 AND open_time >= $3 AND open_time < $4
        AND open_time >= $7 AND open_time + length <= $8
),
compared AS (
    SELECT period, open_time, e.period IS NOT NULL AS has_trades,
        a.period IS NOT NULL AS has_candle, coalesce(a.trade_count, 0) AS claimed,
        array_remove(ARRAY[
            CASE WHEN a.open <> e.open THEN 'open' END,
            CASE WHEN a.high <> e.high THEN 'high' END,
            CASE WHEN a.low <> e.low THEN 'low' END,
            CASE WHEN a.close <> e.close THEN 'close' END,
            CASE WHEN a.volume <> e.volume THEN 'volume' END,
            CASE WHEN a.quote_volume <> e.quote_volume THEN 'quote_volume' END,
            CASE WHEN a.buy_volume <> e.buy_volume THEN 'buy_volume' END,
            CASE WHEN a.buy_quote_volume <> e.buy_quote_volume THEN 'buy_quote_volume' END,
            CASE WHEN a.trade_count <> e.trade_count THEN 'trade_count' END,
            CASE WHEN a.first_trade_id IS DISTINCT FROM e.first_trade_id THEN 'first_trade_id' END,
            CASE WHEN a.last_trade_id IS DISTINCT FROM e.last_trade_id THEN 'last_trade_id' END
        ], NULL) AS fields,
        to_jsonb(e) AS expected, to_jsonb(a) AS actual
    FROM expected AS e
    FULL JOIN actual AS a USING (period, open_time)
)
SELECT count(*) AS compared,
    coalesce(jsonb_agg(jsonb_build_object(
        'period', period, 'open_time', extract(epoch FROM open_time)::bigint * 1000,
        'fields', CASE WHEN has_trades AND has_candle THEN to_jsonb(fields) ELSE '[]' END,
        'expected', expected, 'actual', actual
    ) ORDER BY open_time, period) FILTER (WHERE
        CASE WHEN has_trades AND has_candle THEN fields <> '{}' ELSE has_trades OR claimed > 0 END
    ), '[]')::text AS differences
FROM compared

-- name: stored_ids
-- $1 exchanges, $2 symbols, $3 ids, $4 times in microseconds, $5 and $6 an hour before the earliest
-- and behind the latest: which of them are not stored within an hour of their time. Looked up as in
-- insert_trades.
SELECT wanted.exchange, wanted.symbol, wanted.trade_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
    AS wanted(exchange, symbol, trade_id, time_us)
LEFT JOIN LATERAL (
    SELECT stored.time
    FROM (
        SELECT t.time
        FROM market_trades AS t
        WHERE t.exchange = wanted.exchange AND t.symbol = wanted.symbol
            AND t.trade_id = wanted.trade_id
            AND t.time >= $5::timestamptz AND t.time <= ANY (ARRAY[$6::timestamptz])
        OFFSET 0
    ) AS stored
    WHERE stored.time
            >= timestamptz 'epoch' + (wanted.time_us - 3600000000) * interval '1 microsecond'
        AND stored.time
            <= timestamptz 'epoch' + (wanted.time_us + 3600000000) * interval '1 microsecond'
    LIMIT 1
) AS found ON true
WHERE found.time IS NULL
