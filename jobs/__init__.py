"""What a job is and what it needs. Pure: no clock, I/O, logging, SQL, Ray or torch.

cards.py         the card catalogue: memory, bandwidth, arithmetic, overheads
errors.py        the exception tree
identity.py      identity beside row ids, which come again after a restore: uuids
message_base.py  the base class of every message between server, host and trainer
recovery.py      decide(): what follows when an attempt ends
state.py         states, outcomes, reasons, the table of moves
units.py         sizes and durations as people write them
convert/         configurations of other tools -> job files
jobfile/         the job file: its text, keys, cross-field rules, overrides, sweeps and errors
memory/          how much of a card a job takes, and which rung of the memory ladder it gets
messages/        the messages between server, host and trainer. Times are Unix seconds, memory is bytes, power
                 is watts
"""
