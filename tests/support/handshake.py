# Whether sshd at port 22 serves a new connection, for the programs that watch it.
import socket


def gets_through(source=None):
    """The server's KEXINIT arrived. `source`: the address and port to connect from."""
    try:
        with socket.create_connection(("127.0.0.1", 22), 1, source) as connection:
            connection.settimeout(1)
            data = b""
            while b"\n" not in data:
                part = connection.recv(256)
                if not part:
                    return False
                data += part
            connection.sendall(b"SSH-2.0-watch\r\n")
            data = data.split(b"\n", 1)[1]
            while len(data) < 6:
                part = connection.recv(4096)
                if not part:
                    return False
                data += part
            return data[5] == 20
    except OSError:
        return False
