-- How far savers have come in each stream, kept beside the rows it speaks of. NATS knows it as well,
-- but a nats-server that is killed may forget, and would give everything out again.

CREATE TABLE market_saved (
    stream text COLLATE "C" PRIMARY KEY,
    created text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    through bigint NOT NULL,
    stored_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE market_saved IS
    'What of each stream was saved here; delete the rows to have all of it saved again';
COMMENT ON COLUMN market_saved.stream IS 'Name of the JetStream stream';
COMMENT ON COLUMN market_saved.created IS 'When it was made, as it says; a row of another stream means nothing';
COMMENT ON COLUMN market_saved.since IS
    'The savers'' ack floor when the row was made: what lies below may have been saved elsewhere';
COMMENT ON COLUMN market_saved.through IS
    'Sequence up to which all behind since was committed or became a dead letter';
COMMENT ON COLUMN market_saved.stored_at IS
    'When the newest message of the stream was stored then; a later one is not meant';
COMMENT ON COLUMN market_saved.updated_at IS 'When this row last changed';
