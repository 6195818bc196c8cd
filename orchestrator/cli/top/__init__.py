"""`tuneyard top`: the fleet live in a terminal. Textual is imported by app.py and what it shows alone.

app.py        the application: keys, what is asked for, what is shown where
ask.py        the dialogs: a question with an answer, the help
curves.py     lines of numbers drawn in braille. Pure
feed.py       the thread that asks the server, one request at a time
fleet.py      what the server tells of the fleet, as rows. Pure
job.py        the screen of one job
job_lines.py  what that screen says. Pure
lines.py      how rows become lines of a width. Pure
marks.py      bars, sparklines, symbols, colours. Pure
views.py      the lists: lines drawn as they are needed, with a cursor
"""
