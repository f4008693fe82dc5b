"""How a checkout gets its environments, data, tools and model; in plain Python, since it runs before them."""
