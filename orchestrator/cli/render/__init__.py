"""How answers are drawn: words, tables, text and pictures. Pure: the time comes in as an argument.

log_text.py       a job's log without what would drive a terminal, progress bars as they stood last
notes.py          What is said beside the answer, on stderr
plan_plot.py      its picture: memory by part against rung
plan_text.py      what it says: cards, parts, rungs
plot_style.py     how pictures look: colours in light and dark, of each part of memory
plots.py          pictures for `--plot`: what they share, and the drawings
simulate_plot.py  its picture: how completion and waiting times are spread
simulate_text.py  what it says: a line a policy, one a group
table.py          tables and sections: rich on a terminal, aligned text in a pipe
words.py          how jobs, cards and times read for people
"""
