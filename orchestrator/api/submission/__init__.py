"""From a request to validated jobs, stored under one commit.

dependencies.py  what the jobs of a submission wait for: names -> places in it
group_commit.py  group commit of submissions
idempotency.py   Idempotency-Key: asking again makes no second job
planned_job.py   the job of a plan, which may lack its data
steps.py         the steps that follow the training of jobs
validation.py    a submission -> validated jobs, every fault at once
"""
