-- Written by the transaction that saves, no more read from the ack floor: the record says as much as
-- the rows, also in a database that was restored. A batch adds a row to the notes, whatever it took; once
-- a second they are joined to what is known.

CREATE TABLE market_saved_notes (
    stream text COLLATE "C" NOT NULL,
    created text COLLATE "C" NOT NULL,
    since bigint[] NOT NULL,
    through bigint[] NOT NULL,
    stored_at timestamptz[] NOT NULL
);

COMMENT ON TABLE market_saved_notes IS
    'What batches took and market_saved does not say yet; delete the rows of both to have all saved again';
COMMENT ON COLUMN market_saved_notes.stream IS 'Name of the JetStream stream';
COMMENT ON COLUMN market_saved_notes.created IS 'When it was made, as it says';
COMMENT ON COLUMN market_saved_notes.since IS 'Sequences behind which stretches begin';
COMMENT ON COLUMN market_saved_notes.through IS 'The last sequence of each stretch';
COMMENT ON COLUMN market_saved_notes.stored_at IS 'When the last of each was stored in the stream';

COMMENT ON TABLE market_saved IS
    'Stretches of each stream that are saved here; delete the rows to have all of it saved again';
COMMENT ON COLUMN market_saved.since IS 'Sequence behind which this stretch begins';
COMMENT ON COLUMN market_saved.through IS
    'Sequence through which all behind since was committed, became a dead letter or holds nothing';
COMMENT ON COLUMN market_saved.stored_at IS
    'When the last of it was stored in the stream; a message stored later is not meant';
