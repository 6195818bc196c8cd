"""Readings of cards in steps of a minute and a quarter of an hour, and curves of jobs, kept longer than samples.

curves.py     curves of attempts that ended, kept for good
fields.py     what is kept of each step, in which units
idle.py       whether cards did anything lately
late.py       minutes whose samples came late
prune.py      what goes once it was taken up
raw.py        samples in steps of any width, made in SQL
rollup.py     samples become minutes, minutes quarters, cards hosts and the fleet
lines.py      the lines of a chart: of cards, hosts, a job or the fleet, from the finest that is there
"""
