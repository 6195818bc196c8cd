"""The typed Python client, and the thin HTTP transport of the command line.

client.py      the typed Python client
http.py        the thin transport of the CLI: JSON over http.client, every failure as one of jobs.errors
idempotent.py  a submission made once, however often it takes to get the answer
project_calls.py  what the client asks of projects
responses.py   what a server's answer means: its JSON, or one of jobs.errors
settings.py    where the server is: flags, then the environment, then config.json in the home folder
"""
