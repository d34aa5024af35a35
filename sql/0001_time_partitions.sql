-- How tables that grow with time are split: TimescaleDB hypertables where the extension can be
-- had, native range partitions everywhere else. Only the functions of this file know which.

-- TimescaleDB is used when the server loaded its library and we may create it in this database.
-- Looking for one of the loader's own settings comes first: without the library CREATE EXTENSION
-- would not fail but end the connection. The custom setting lets a database be kept plain.
DO $$
BEGIN
    IF current_setting('market_ingestor.timescale', true) = 'off'
        OR NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
        OR NOT EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load')
    THEN
        RETURN;
    END IF;
    CREATE EXTENSION IF NOT EXISTS timescaledb;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'timescaledb may not be created here: native partitions are used';
END
$$;

-- Whether new tables become hypertables.
CREATE FUNCTION market_has_timescale() RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('market_ingestor.timescale', true), 'on') <> 'off'
        AND EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
$$;

-- Turn an empty plain table into one split by its time column. Comments on the table itself must
-- be made afterwards.
CREATE FUNCTION market_split_by_time(parent text, time_column text, chunk interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF market_has_timescale() THEN
        PERFORM create_hypertable(
            parent::regclass, time_column::name,
            chunk_time_interval => chunk, create_default_indexes => false
        );
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE %I RENAME TO %I', parent, parent || '_model');
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (%I)',
        parent, parent || '_model', time_column
    );
    EXECUTE format('DROP TABLE %I', parent || '_model');
END
$$;

-- The length of one native partition of a table: a day of trades, a month of candles.
CREATE FUNCTION market_partition_unit(parent text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE parent WHEN 'market_trades' THEN 'day' ELSE 'month' END
$$;

-- Make the partitions that hold the given times; nothing to do for hypertables. There is no
-- default partition: rows in it would keep the right partition from being made. A partition is
-- built beside its parent and then attached, which unlike CREATE TABLE ... PARTITION OF stops
-- neither readers nor writers.
CREATE FUNCTION market_ensure_partitions(parent text, times timestamptz[]) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    unit text := market_partition_unit(parent);
    lower_bound timestamptz;
    partition_name text;
    made integer := 0;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = parent::regclass) <> 'p' THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('market_ensure_partitions', 0));
    FOR lower_bound IN
        SELECT DISTINCT date_trunc(unit, each, 'UTC') FROM unnest(times) AS each ORDER BY 1
    LOOP
        partition_name := parent || to_char(lower_bound AT TIME ZONE 'UTC', '_YYYYMMDD');
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition_name, parent);
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, partition_name, lower_bound,
            (lower_bound AT TIME ZONE 'UTC' + ('1 ' || unit)::interval) AT TIME ZONE 'UTC'
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drop what lies wholly before a time, chunk by chunk or partition by partition: no row is
-- deleted one by one, and nothing here needs more than TimescaleDB's Apache licence.
CREATE FUNCTION market_drop_before(parent text, cutoff timestamptz) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    unit text := market_partition_unit(parent);
    partition_name text;
    dropped integer := 0;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = parent::regclass) <> 'p' THEN
        SELECT count(*) INTO dropped FROM drop_chunks(parent::regclass, older_than => cutoff);
        RETURN dropped;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('market_ensure_partitions', 0));
    FOR partition_name IN
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = parent::regclass
            AND (to_timestamp(right(inhrelid::regclass::text, 8), 'YYYYMMDD')::timestamp
                + ('1 ' || unit)::interval) AT TIME ZONE 'UTC' <= cutoff
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
