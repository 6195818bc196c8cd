"""Start and stop over Ray, in a process of its own.

child.py       one dispatch process: what it says, what it is told, when it counts as hung
dispatcher.py  the server's side of dispatch
heartbeat.py   what a process says of itself while each piece of its work keeps its time
ray_driver.py  start rank actors over Ray, in a process of its own
ray_head.py    the Ray head: started, adopted, ended
"""
