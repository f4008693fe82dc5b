"""The queue of texts that people decide: durable, ordered by priority and age, every item decided once."""
