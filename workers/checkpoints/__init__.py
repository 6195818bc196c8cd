"""Checkpoints of a job: published whole, verified by checksum, pruned; the room that they take.

disk_space.py     room on the disks they go to
folders.py        published whole, found, pruned
manifest.py       sizes and checksums of what is in one
ray_transport.py  the Ray actor that reads a checkpoint for a trainer on another host
transfer.py       a job's checkpoint fetched from the host that has it
"""
