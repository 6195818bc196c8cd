"""What a job is and what it needs. Pure: no clock, I/O, logging, SQL, Ray or torch.

advice.py          what would help a job that fits no card
binding.py         what sets a peak that checkpointing can't lower
calibration.py     measured against projected: the interval of the next projection, its pace
cards.py           the card catalogue: memory, bandwidth, arithmetic, overheads
changes.py         which keys of a submitted job may change
continuing.py      what of a job file decides its weights: who may go on from whose checkpoint
contradictions.py  what a job file says that flags over it contradict
errors.py          the exception tree
faults.py          pydantic's errors in our words
fields.py          value types of a job file: sizes, durations, names
identity.py        whose something is: uuids beside row ids, which come again after a restore
jobfile.py         the text of a job file -> a mapping
ladder.py          rungs, and choose(): the fastest that fits a card
launches.py        kernels that a layer, a micro-batch and an update launch, counted on the CUDA double
left_out.py        what is said of rows that are cut or left out, and when a job is refused for them
lengths.py         how long a job's sequences are, and what follows: longest batch, padding, steps
memory.py          project(): peak memory by named part, in closed form
message.py         what every message between server, host and trainer is
overrides.py       `training.steps=20` laid over a job file
peaks.py           the highest moments of a step, for many rungs at once
places.py          where in a row of layers a step can be highest
profile.py         MemoryProfile: how one architecture, trained one way, uses memory
projection.py      Projection: what a process takes of a card, by phase and part
recovery.py        decide(): what follows when an attempt ends
remedies.py        changes of a job file that would help, each one that its rules accept
report.py          the messages between server, host and trainer
requirements.py    what a job needs of the libraries on a host
rules.py           rules between a job file's values
rung.py            rung: one step of the memory ladder
sending.py         the order to send a result
spec.py            JobSpec: what to train, on what, how, on which cards
state.py           states, outcomes, reasons, the table of moves
sweep.py           a job file with a matrix -> the jobs of a group
totals.py          the highest moments of many steps -> projections
units.py           sizes and durations as people write them
waits.py           `after` of a job file: what a job waits for
allocator/         what torch's CUDA allocator holds beside live tensors: terms with a reason each, and how far
                   off they were
"""
