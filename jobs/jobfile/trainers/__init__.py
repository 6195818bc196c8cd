"""Trainers that a job file can name.

facts.py  what their rows hold, and their learning rate
rules.py  what a trainer has no use for, or can't do
"""
