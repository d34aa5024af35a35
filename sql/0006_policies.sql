-- Columnstore and retention by TimescaleDB's own jobs, where its licence has them; everywhere else
-- these functions change nothing. Savers call them with what is configured, again and again.

-- Whether a table can have policies: a hypertable, and the licence that includes them.
CREATE FUNCTION market_has_policies(parent text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND coalesce(current_setting('timescaledb.license', true), '') = 'timescale'
        AND (SELECT relkind FROM pg_class WHERE oid = parent::regclass) <> 'p'
$$;

-- Drop a table's chunks once they are wholly older than an interval; null: keep them. Returns
-- whether anything had to be changed.
CREATE FUNCTION market_set_retention(parent text, keep interval) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    present interval;
BEGIN
    IF NOT market_has_policies(parent) THEN
        RETURN false;
    END IF;
    SELECT (config ->> 'drop_after')::interval INTO present
    FROM timescaledb_information.jobs
    WHERE hypertable_schema = current_schema() AND hypertable_name = parent
        AND proc_name = 'policy_retention';
    IF present IS NOT DISTINCT FROM keep THEN
        RETURN false;
    END IF;
    PERFORM remove_retention_policy(parent::regclass, if_exists => true);
    IF keep IS NOT NULL THEN
        PERFORM add_retention_policy(parent::regclass, drop_after => keep);
    END IF;
    RETURN true;
END
$$;

-- Turn a table's chunks into columns once they are older than an interval; null: do so no more,
-- and leave what was turned as it is. Rows of one instrument lie together, in the order of time.
-- Returns whether anything had to be changed.
CREATE FUNCTION market_set_columnstore(parent text, settled interval) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    present interval;
    time_column text := CASE parent WHEN 'market_trades' THEN 'time' ELSE 'open_time' END;
    segments text := CASE parent WHEN 'market_trades' THEN 'exchange, symbol'
        ELSE 'exchange, symbol, period' END;
BEGIN
    -- Before 2.18 these procedures had other names: such a server does without.
    IF NOT market_has_policies(parent) OR to_regproc('add_columnstore_policy') IS NULL THEN
        RETURN false;
    END IF;
    SELECT (config ->> 'compress_after')::interval INTO present
    FROM timescaledb_information.jobs
    WHERE hypertable_schema = current_schema() AND hypertable_name = parent
        AND config ? 'compress_after';
    IF present IS NOT DISTINCT FROM settled THEN
        RETURN false;
    END IF;
    IF present IS NOT NULL THEN
        CALL remove_columnstore_policy(parent::regclass, if_exists => true);
    END IF;
    IF settled IS NOT NULL THEN
        EXECUTE format(
            'ALTER TABLE %I SET (timescaledb.enable_columnstore,'
            ' timescaledb.segmentby = %L, timescaledb.orderby = %L)',
            parent, segments, time_column
        );
        CALL add_columnstore_policy(parent::regclass, after => settled);
    END IF;
    RETURN true;
END
$$;
