"""Checkpoints of a job: published whole, verified by checksum, pruned; the room that they take.

folders.py   published whole, found, pruned
manifest.py  sizes and checksums of what is in one
room.py      room on the disks they go to
"""
