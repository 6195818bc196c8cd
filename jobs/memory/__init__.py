"""How much of a card a job takes, and which rung of the memory ladder it gets.

bottleneck.py        which parts set a peak that checkpointing can't lower
dropped_rows.py      warnings about rows that are cut or left out, and when a job is refused for them
envelope.py          which of many lines of a profile can be the highest
kernel_launches.py   kernels that a layer, a micro-batch and an update launch, counted on the CUDA double
ladder.py            rungs, and choose(): the fastest that fits a card
peaks.py             the peaks of a step, for many rungs at once
profile.py           MemoryProfile: how one architecture, trained one way, uses memory
project.py           project(): peak memory by named part, in closed form
projection.py        Projection: what a process takes of a card, by phase and part
projector.py         the peaks of many steps -> projections
remedies.py          changes of a job file that would help, each valid by its rules
rung.py              rung: one step of the memory ladder
sequence_lengths.py  how long a job's sequences are, and what follows: longest batch, padding, steps
suggestions.py       what would help a job that fits no card
allocator/           what torch's CUDA allocator holds beside live tensors: terms with a reason each, and how
                     far off they were
calibration/         measured against projected: what the next projection's interval and step time learn from attempts
moments/             the high points of a step
"""
