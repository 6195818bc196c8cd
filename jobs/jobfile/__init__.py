"""The job file: its text, keys, cross-field rules, overrides, sweeps and errors.

changes.py               which keys of a submitted job may change
contradictions.py        what a job file says that flags over it contradict
cross_field_rules.py     rules between a job file's values
dependencies.py          `after` of a job file: what a job waits for
fields.py                value types of a job file: sizes, durations, names
loader.py                the text of a job file -> a mapping
overrides.py             `training.steps=20` laid over a job file
requirements.py          what a job needs of the libraries on a host
resume_compatibility.py  what of a job file decides its weights: who may go on from whose checkpoint
spec.py                  JobSpec: what to train, on what, how, on which cards
sweep.py                 a job file with a matrix -> the jobs of a group
validation_errors.py     pydantic's errors in our words
"""
