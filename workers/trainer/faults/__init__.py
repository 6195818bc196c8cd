"""Numbers that are not finite, and why a trainer ended with an exception.

diverging.py  how an attempt ends whose numbers are not finite
failing.py    why a trainer ended with an exception
"""
