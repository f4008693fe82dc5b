"""The gateway, the one door to the engine: it knows the callers, builds the prompts, relays the answers."""
