"""The terminal view: a push client that draws a table."""
