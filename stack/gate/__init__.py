"""The release gate of retrieval: candidates are evaluated against the release in service before they may follow it."""
