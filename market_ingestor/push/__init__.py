"""From the bus to WebSocket and TCP clients."""
