"""The messages between server, host and trainer. Times are Unix seconds, memory is bytes, power is watts.

base.py         what every message between server, host and trainer is
reports.py      the messages between server, host and trainer
send_result.py  the order to send a result
"""
