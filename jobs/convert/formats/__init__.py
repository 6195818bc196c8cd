"""The tools whose configurations are read: a table of rules each, and what several keys mean together.

axolotl.py       axolotl 0.19
axolotl_keys.py  its keys, and what each comes to by itself
huggingface.py   fields of transformers' TrainingArguments, which LLaMA-Factory and TRL share
llamafactory.py  LLaMA-Factory 0.9.5
script.py        a Python script with TRL: what its calls say literally
trl.py           TRL 1.16: a file for `trl sft --config`
"""
