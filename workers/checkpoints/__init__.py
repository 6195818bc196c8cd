"""Checkpoints of a job: published whole, verified by checksum, pruned, fetched from other hosts.

disk_space.py          free space on the disks that they need
folders.py             published whole, found, pruned
job_folder.py          the folder of a job, marked with its uuid
manifest.py            sizes and checksums of the files of one
ray_transport.py       the Ray actor that reads a checkpoint for a trainer on another host
safetensors_header.py  the header of a safetensors file, malformed ones refused
transfer.py            a job's checkpoint fetched from the host that has it
"""
