# Watches port 22 until /run/stop is there, and prints what changes, with milliseconds of CLOCK_MONOTONIC: `connection`, whether a new
# connection gets through (the server's KEXINIT arrived); `program`, the inode of /usr/sbin/sshd; `directory`, whether /run/sshd exists.
import itertools
import os
import time

from handshake import gets_through

# sshd counts connections that leave early by their source address (PerSourcePenalties): each comes from another one.
SOURCES = itertools.cycle(f"127.9.{third}.{fourth}" for third in range(1, 255) for fourth in range(1, 255))


def program():
    try:
        return os.stat("/usr/sbin/sshd").st_ino
    except OSError:
        return 0


FACTS = {"program": program, "directory": lambda: int(os.path.isdir("/run/sshd")), "connection": lambda: int(gets_through((next(SOURCES), 0)))}
known = {}
while not os.path.exists("/run/stop"):
    for name, fact in FACTS.items():
        value = fact()
        if known.get(name) != value:
            known[name] = value
            print(f"{time.monotonic() * 1000:.0f} {name} {value}", flush=True)
    open("/run/watching", "w").close()
