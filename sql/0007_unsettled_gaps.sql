-- Savers look through the gaps that are not filled again and again, the newest first. Filled ones
-- stay for ever and must not be read on the way.
CREATE INDEX market_gaps_unsettled ON market_gaps
    (from_time, exchange, symbol, after_id, before_id) WHERE state <> 'filled';
