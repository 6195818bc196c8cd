"""`tuneyard report`: one job as one page that needs nothing else.

facts.py    what a report says of a job, asked for and made plain. Pure but for the asking
page.py     the page: HTML with its style inside, everything escaped. Pure
picture.py  the same as a picture, by matplotlib
svg.py      charts as SVG. Pure
"""
