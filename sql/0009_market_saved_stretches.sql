-- A row for each stretch of a stream: what was acknowledged while nobody watched may have been saved
-- into another database, and this one be a backup that was put in its place.

ALTER TABLE market_saved DROP CONSTRAINT market_saved_pkey, ADD PRIMARY KEY (stream, since);

COMMENT ON TABLE market_saved IS
    'Stretches of each stream that were saved here; delete the rows to have all of it saved again';
COMMENT ON COLUMN market_saved.since IS
    'The savers'' ack floor when a saver began to watch: what lies below may have been saved elsewhere';
