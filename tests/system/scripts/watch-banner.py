"""Measures for how long nobody gets a banner from port 22 while something else happens: the longest time between two
banners. Leaves /run/watching when it begins, ends when /run/enough is there, and prints milliseconds.
"""

import os
import socket
import time

last, longest = None, 0.0
while True:
    try:
        with socket.create_connection(("127.0.0.1", 22), 1) as client:
            client.settimeout(1)
            if client.recv(4):
                now = time.monotonic()
                if last is None:
                    open("/run/watching", "w").close()
                else:
                    longest = max(longest, now - last)
                last = now
    except OSError:
        pass
    time.sleep(0.001)
    if os.path.exists("/run/enough") and time.monotonic() - last < 0.05:
        break
print(longest * 1000)
