"""The words every stage shares; pure values, no input or output."""
