"""A client of sshd that got as far as the key exchange, and is neither logged in nor gone. It leaves /run/half-way."""

import socket

s = socket.create_connection(("127.0.0.1", 22))
s.sendall(b"SSH-2.0-half\r\n")
data = b""
while len(data) < 500:
    data += s.recv(500)
open("/run/half-way", "w").close()
while s.recv(500):
    pass
