# Processes of one user's that are called sshd, and one of them with as many descriptors as it may have. Usage: crowd.py COUNT
import os
import resource
import shutil
import sys
import time

count = int(sys.argv[1])
descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
os.makedirs("/tmp/crowd", exist_ok=True)
program = "/tmp/crowd/sshd"
shutil.copy("/bin/sleep", program)
for _ in range(count):
    if os.fork() == 0:
        os.execv(program, ["sshd", "3600"])
shutil.copy(os.path.realpath("/usr/bin/python3"), "/tmp/crowd/python")
os.makedirs("/tmp/crowd/many", exist_ok=True)
os.link("/tmp/crowd/python", "/tmp/crowd/many/sshd")
if os.fork() == 0:
    os.execv("/tmp/crowd/many/sshd", ["sshd", "-c", f"""
import os, time
null = os.open('/dev/null', os.O_RDONLY)
for _ in range({descriptors} - 10): os.dup(null)
open('/tmp/crowd-is-here', 'w').close()
time.sleep(3600)
"""])
time.sleep(3600)
