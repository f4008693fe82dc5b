"""The system under test: the services that a company would run."""
