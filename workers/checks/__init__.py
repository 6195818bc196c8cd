"""Checks of a job's model, tokenizer and token ids, made before a card is assigned."""
