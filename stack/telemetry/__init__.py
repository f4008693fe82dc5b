"""What the services tell about themselves: request ids, log lines, metrics."""
