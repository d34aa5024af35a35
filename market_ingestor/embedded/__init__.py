"""nats-server and PostgreSQL as child processes."""
