"""The messages between server, host and trainer. Times are Unix seconds, memory is bytes, power is watts.

reports.py       reports, answers and assignments
send_result.py   the order to send a result
taken_result.py  the result that a step works on
"""
