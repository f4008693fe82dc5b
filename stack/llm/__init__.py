"""The inference engine: model preparation, launcher, and the canary that decides whether it may serve."""
