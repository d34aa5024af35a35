"""The venues' own protocols, with faults on cue."""
