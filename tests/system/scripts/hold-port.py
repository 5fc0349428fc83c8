"""Holds a TCP port and serves nothing on it. Usage: hold-port.py ADDRESS PORT"""

import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
if address == "::":
    listener = socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=True)
else:
    listener = socket.create_server((address, port))
while True:
    listener.accept()
