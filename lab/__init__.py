"""The harness around the stack: what makes a drill out of a running system."""
