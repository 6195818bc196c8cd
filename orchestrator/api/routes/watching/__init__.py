"""Routes for who watches.

fleet.py  the fleet as it is now: by column, and as a stream
"""
