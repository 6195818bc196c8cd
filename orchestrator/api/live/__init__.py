"""The fleet as it is now, read at most once a second for all who watch, and sent to them as it changes.

columns.py  two states of the same tables -> what changed, by column
feed.py     what changed of late, encoded once for all who follow
stream.py   one follower: server-sent events until it goes, or reads too slowly
window.py   the newest state, read anew only once the last is old enough
"""
