"""A job's training data: its rows as the files have them, the data set made of them, their checks, their lengths.

arrow_rows.py     rows of Parquet, saved data sets, data sets of the hub
checks.py         what is wrong with the data that a job file names
columns.py        which columns are trained on, what to rename
compared.py       rows of preferences as tokens: pairs, or completions with a label
conversations.py  what each turn of a conversation must have
csv_rows.py       rows of CSV: every value is text
datasets.py       rows as the data set that is trained on, and the part kept out
fingerprint.py    the identity of the rows, kept with each checkpoint
json_rows.py      rows of JSON: one a line, or one list
rendering.py      conversations as the chat template writes them, the assistant's turns marked
layout.py         which columns of a file are read, and what they are to us
rows.py           open_rows(): the one reader
shape.py          what the rows hold, decided by the first
tokens.py         rows as tokens and labels
"""
