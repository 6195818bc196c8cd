"""Whose files are whose on a host: what is not what the server has by its id is set aside, never used or deleted.

aside.py       what is not what the server has by its id, moved out of the way
job_folder.py  the folder of a job says whose it is
"""
