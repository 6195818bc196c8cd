"""`tuneyard.fit`: the rung of the memory ladder for a TRL script of one's own, on the card that it runs on.

card.py       the card that this process trains on, and what others hold of it
fit.py        fit(): trace, ladder, a config changed to the rung that fits
fitted.py     what came of it: config, rung, figures
guard.py      steps down the ladder before memory runs out, and when it did
lengths.py    how long the rows are that a script trains on
report.py     what was chosen and why, as text
request.py    what a script trains, in the words of a job file
room.py       how near to its limit a card's memory has come
splitting.py  a micro-batch in smaller ones, with the same gradients
trace.py      the memory profile, kept between runs
"""
