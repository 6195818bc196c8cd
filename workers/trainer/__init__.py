"""What runs in the process of one rank: its imports, and the checks of what it trains."""
