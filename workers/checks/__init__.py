"""Checks of a job's model, tokenizer and token ids, made before a card is assigned.

generation.py  odd generation settings, saved as they were
hub.py         a model of the hub, as far as this host's cache has it
ids.py         token ids against the rows of the embedding
inputs.py      checks of what a job file points at
libraries.py   libraries that the files of a model ask for
on_host.py     what only the host can see of a model
pointers.py    Git LFS pointers
weights.py     weights by their headers: there, whole, as config.json says
"""
