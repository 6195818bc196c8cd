"""A job's training data: its rows as the files have them, the data set made of them, their checks, their lengths."""
