"""From an exchange's frames to trades on the bus."""
