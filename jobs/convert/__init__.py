"""Configurations of other tools -> a job file: every key of them mapped, or listed with the reason why not.

convert.py   convert(): which tool's it is, and what became of each key
draft.py     the job file on its way, with an account of each key
rules.py     what a key of another tool can come to
values.py    values that mean the same under other names
writing.py   the text of the job file
formats/     the tools: a table of rules each, and what several keys mean together
"""
