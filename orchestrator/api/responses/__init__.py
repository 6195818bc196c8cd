"""Rows of the store -> the JSON of an answer, with what can be done about it.

advice.py       what would help a job that waits
fleet_state.py  rows -> the fleet as it is now, by column
next_steps.py   what to do about a job that ended, hangs, or whose host is gone
presence.py     which hosts are online, and jobs of those that are not
views.py        rows -> the shapes of answers
"""
