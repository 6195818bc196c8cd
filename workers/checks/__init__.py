"""Checks of what a job file points at: model files, weights, data, output. They need no torch: the server runs them
too.

generation.py  odd generation settings, saved as they were
hub.py         a model of the hub, as far as this host's cache has it
inputs.py      checks of what a job file points at
libraries.py   libraries that the files of a model ask for
weights.py     weights by their headers: there, whole, as config.json says
"""
