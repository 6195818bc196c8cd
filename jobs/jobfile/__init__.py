"""The job file: its text, keys, cross-field rules, overrides, sweeps and errors.

alike.py                 job files that differ only in names are validated once
changes.py               which keys of a submitted job may change
contradictions.py        what flags contradict in the job file that they change
cross_field_rules.py     rules between a job file's values
dependencies.py          `after` of a job file: what a job waits for
fields.py                value types of a job file: sizes, durations, names
loader.py                the text of a job file -> a mapping
overrides.py             `training.steps=20` applied to a job file
requirements.py          libraries that a job needs on a host
resume_compatibility.py  which keys decide a job's weights: whether it may resume from a checkpoint
secret_names.py          names of secrets, and what they may not be
spec.py                  JobSpec: what to train, on what, how, on which cards
steps.py                 `then` of a job -> the job files of its steps
sweep.py                 a job file with a matrix -> the jobs of a group
trackers.py              trackers that a run can report to
validation_errors.py     pydantic's errors -> faults in our words
options/                 options of training whose values have rules of their own
sections/                the sections of a job file, each with its keys
trainers/                trainers: what their rows hold, what they can't do
"""
