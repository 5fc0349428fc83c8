"""Clients of sshd that send one byte at a time, garbage, or a packet that never ends, from 127.0.0.9. Each kind leaves
/run/clients.KIND once sshd has closed one of its connections, or has had it for a second.
"""

import os
import socket
import threading
import time


def client(kind, data, pause):
    while True:
        begun = time.monotonic()
        try:
            connection = socket.create_connection(("127.0.0.1", 22), 10, ("127.0.0.9", 0))
            if connection.recv(4) != b"SSH-":
                continue
            while True:
                for byte in data:
                    connection.sendall(bytes([byte]))
                    time.sleep(pause)
                    if time.monotonic() - begun > 1:
                        open(f"/run/clients.{kind}", "w").close()
        except OSError:
            open(f"/run/clients.{kind}", "w").close()


KINDS = [
    ("slow", b"SSH-2.0-x", 1),
    ("garbage", b"\xff" * 50, 0.001),
    ("endless", b"SSH-2.0-x\r\n\xff\xff\xff\xff", 0.01),
    ("random", os.urandom(500), 0),
]
# Fewer than the ten from which on MaxStartups drops a share.
for kind in KINDS * 2:
    threading.Thread(target=client, args=kind, daemon=True).start()
time.sleep(3600)
