"""What a trace of a training step puts in place of what only a card has."""
