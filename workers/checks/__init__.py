"""Checks of what a job file points at: model files, weights, data, output. They need no torch: the server runs them
too.

enclosed.py    files whose text travels in a job file
generation.py  unusual generation settings, saved as they were
hub.py         a model of the hub, as far as it is in this host's cache
inputs.py      checks of the files that a job file names
libraries.py   libraries that the files of a model ask for
weights.py     weights by their headers: present, complete, as config.json says
"""
