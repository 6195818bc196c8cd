"""What runs in the process of one rank: TRL, its callbacks, its memory meter.

allocator.py     torch's CUDA allocator on the job's card
decision.py      what the ranks do after a step, as one number
diverging.py     how an attempt ends whose numbers are not finite
failing.py       why a trainer ended with an exception
finite.py        losses, gradients and weights that are not finite numbers, found
header.py        the header of a safetensors file, malformed ones refused
late_imports.py  what starts CUDA when imported: put off until it is used
longest.py       the longest rows in the first step, for an allocator that keeps what it took
put_back.py      a checkpoint's weights put back into the model, all of them
sft.py           TRL's trainer, each step judged before its update
"""
