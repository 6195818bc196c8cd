"""The messages between server, host and trainer. Times are Unix seconds, memory is bytes, power is watts.

reports.py      the messages between server, host and trainer
send_result.py  the order to send a result
"""
