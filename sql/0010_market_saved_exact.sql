-- Written by the transaction that saves, no more read from the ack floor: the record says as much as
-- the rows, also in a database that was restored.

COMMENT ON COLUMN market_saved.since IS 'Sequence behind which this stretch begins';
COMMENT ON COLUMN market_saved.through IS
    'Sequence through which all behind since was committed, became a dead letter or holds nothing';
COMMENT ON COLUMN market_saved.stored_at IS
    'When the last of it was stored in the stream; a message stored later is not meant';
