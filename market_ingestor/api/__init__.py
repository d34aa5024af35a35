"""REST over the tables and the tail of the bus."""
