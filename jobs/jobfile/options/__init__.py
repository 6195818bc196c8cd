"""Options of training whose values have rules of their own.

adapters.py    what LoRA has besides rank and alpha
columns.py     columns that a file names otherwise, rows in the shapes of other programs
extra.py       `training.extra`: fields of TRL's configuration, and why some are refused
schedulers.py  learning rate schedules and their options
templates.py   chat templates: by name, or their text
"""
