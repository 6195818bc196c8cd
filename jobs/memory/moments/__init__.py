"""The high points of a training step, as jobs/memory/peaks.py works them out.

alone.py       rows of a forward pass without gradients: an evaluation's, a reference's
candidates.py  where in a row of layers a step can peak
highest.py     what is found
"""
