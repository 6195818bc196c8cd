"""Steps that follow a training: jobs that take no card.

pending.py  queued steps, and the rows of a round without them
start.py    starts steps where they can, says why the others wait
work.py     what a step works on, as its worker is told
"""
