"""What every HTTP service of the stack shares: its address, its errors, its routes for machines, its start."""
