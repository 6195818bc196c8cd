"""What stands in front of every route: the gate, what a query may have, and the shape of every refusal."""
