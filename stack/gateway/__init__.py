"""The gateway, the one door to the stack: it knows the callers, builds prompts, relays answers."""
