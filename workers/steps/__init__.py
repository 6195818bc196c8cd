"""What follows a training, on the CPU of the host that has its result: one step in a process of its own.

compare.py  how far two models are apart, on rows of the job's data
merge.py    puts an adapter into its base, and compares before and after
run.py      runs one step, and records how it ended
sources.py  the result that a step works on, verified
"""
