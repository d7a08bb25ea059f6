"""A program that is called like ssh and forwards on this host: for tests of tunnels without sshd.

What it does besides is said in the file $FAKE_SSH names: ``refuse <words>`` or ``hang`` instead of logging in. Each call adds
a line to the file with ``.calls`` behind that name: process id and arguments, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    orders = Path(os.environ["FAKE_SSH"])
    with open(f"{orders}.calls", "a") as calls:
        calls.write(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:]}) + "\n")
    order, _, words = orders.read_text().strip().partition(" ")
    if order == "refuse":
        sys.exit(words)
    if order == "hang":
        time.sleep(600)
    path, host, port = sys.argv[sys.argv.index("-L") + 1].split(":")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(50)
    command = next(each.removeprefix("LocalCommand=") for each in sys.argv if each.startswith("LocalCommand="))
    subprocess.run(["/bin/sh", "-c", command], check=True)
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection((host, int(port)))
        except OSError as error:
            print(f"channel 1: open failed: connect failed: {error.strerror}", file=sys.stderr, flush=True)
            near.close()
            continue
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=carry, args=(source, sink), daemon=True).start()


def carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


main()
