"""From the bus to the database, once each."""
