# Gives itself a name that is not text in any encoding (prctl(2), PR_SET_NAME), and stays.
import ctypes
import time

ctypes.CDLL(None).prctl(15, b"\xff\xfe\x1b[2J", 0, 0, 0)
time.sleep(3600)
