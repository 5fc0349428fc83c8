"""Holds connections to sshd that do not authenticate, as many as its MaxStartups lets in. They come from 127.0.0.9, so
penalties of that address concern nobody else. Usage: fill-startups.py COUNT
"""

import socket
import sys
import time

held = []
while len(held) < int(sys.argv[1]):
    client = socket.create_connection(("127.0.0.1", 22), 10, ("127.0.0.9", 0))
    # sshd drops a share of the connections that grows with their number ("Exceeded MaxStartups").
    try:
        banner = client.recv(4)
    except OSError:
        banner = b""
    if banner == b"SSH-":
        held.append(client)
time.sleep(3600)
