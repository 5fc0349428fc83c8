"""Processes of an unprivileged user whose programs are called sshd, at paths with escapes, newlines, bytes that are no
text and 4 KiB of length; and eight whose number changes all the time. Run as that user, in a directory of the user's.
"""

import os
import sys

base = os.fsencode(sys.argv[1])
names = [b"\x1b[2J\x1b]0;owned\x07", b"line\nbreak", b"\xff\xfe", b"\xe2\x80\xae", b" (deleted)"]
paths = [os.path.join(base, name) for name in names]
deep = base
while len(deep) < 3800:
    deep = os.path.join(deep, b"x" * 200)
paths.append(deep)
for path in paths:
    os.makedirs(path)
    program = os.path.join(path, b"sshd")
    with open("/bin/sleep", "rb") as source, open(program, "wb") as copy:
        copy.write(source.read())
    os.chmod(program, 0o755)
    if os.fork() == 0:
        os.execv(program, [b"sshd: /usr/sbin/sshd -D [listener]", b"3600"])
for number in range(8):
    if os.fork() == 0:
        while True:
            if os.fork() == 0:
                os.execv(program, [b"sshd", b"0.0%d" % number])
            os.wait()
