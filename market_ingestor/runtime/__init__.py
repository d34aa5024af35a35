"""Being a process: roles, signals, health, shutdown."""
