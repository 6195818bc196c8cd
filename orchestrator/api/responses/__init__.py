"""Rows of the store -> the JSON of an answer, with what can be done about it.

advice.py      what why and plan say would help a job that waits
next_steps.py  what can be done about a job that ended, hangs, or whose host is not there
presence.py    which hosts are there, and how jobs are shown whose hosts are not
views.py       rows -> the shapes of answers
"""
