"""Checkpoints of a job: published whole, verified by checksum, pruned, fetched from other hosts.

disk_space.py          room on the disks they go to
folders.py             published whole, found, pruned
job_folder.py          the folder of a job says whose it is
manifest.py            sizes and checksums of what is in one
ray_transport.py       the Ray actor that reads a checkpoint for a trainer on another host
safetensors_header.py  the header of a safetensors file, malformed ones refused
transfer.py            a job's checkpoint fetched from the host that has it
"""
