"""Programs that containers run, in Python without anything but its standard library.

They say `ready` when they are, and end when their input does.
"""

from typing import Final

# A watch on the input, which all of them have.
_LEASH: Final = """
import os, sys, threading
def leash():
    while sys.stdin.readline(): pass
    os._exit(0)
"""
_ON_LEASH: Final = _LEASH + "threading.Thread(target=leash, daemon=True).start()\n"

# A web server: port, text. It answers with the text and the address that asks.
SERVE: Final = (
    _ON_LEASH
    + """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        peer = self.client_address[0].removeprefix("::ffff:")
        body = f"{sys.argv[2]} to {peer}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)  # without looking up the host's name
        self.server_name, self.server_port = "", self.server_address[1]
server = Server(("::", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""
)

# Echoes what connections send: port.
ECHO: Final = (
    _ON_LEASH
    + """
import socket
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6,
                              dualstack_ipv6=True)
def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
print("ready", flush=True)
while True:
    threading.Thread(target=echo, args=server.accept()[:1], daemon=True).start()
"""
)

# Sends 1 kB each 10 ms and checks its echo, until its input ends; then tells how many there were:
# address, port, seconds that an echo may take.
STREAM: Final = """
import select, socket, sys
connection = socket.create_connection(sys.argv[1:3], 10)
connection.settimeout(float(sys.argv[3]))
print("ready", flush=True)
blocks = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    block = (b"%09d " % blocks) * 100
    connection.sendall(block)
    echo = b""
    while len(echo) < len(block):
        piece = connection.recv(len(block) - len(echo))
        if not piece: sys.exit(f"the connection ended after {blocks} blocks")
        echo += piece
    if echo != block: sys.exit(f"block {blocks} came back changed")
    blocks += 1
print(blocks)
"""


# Sends bytes and checks their echo: address, port, how many.
PAYLOAD: Final = """
import os, socket, sys
connection = socket.create_connection(sys.argv[1:3], 10)
payload = os.urandom(int(sys.argv[3]))
connection.sendall(payload)
connection.shutdown(socket.SHUT_WR)
echo = b""
while piece := connection.recv(65536): echo += piece
if echo != payload: sys.exit(f"{len(echo)} bytes came back, or others")
"""

# Echoes datagrams: port.
UDP_ECHO: Final = (
    _ON_LEASH
    + """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    server.sendto(*server.recvfrom(65535))
"""
)

# Sends a datagram and checks its echo: address, port, how many bytes.
DATAGRAM: Final = """
import os, socket, sys
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                       socket.SOCK_DGRAM)
client.settimeout(5)
client.connect((sys.argv[1], int(sys.argv[2])))
payload = os.urandom(int(sys.argv[3]))
client.send(payload)
if client.recv(65535) != payload: sys.exit("it came back changed")
"""

# Sends a datagram each 20 ms until its input ends, then waits a little; prints for each, in JSON,
# when it was sent and whether its echo came: address, port, seconds to wait at the end.
PROBE: Final = """
import json, select, socket, sys, time
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                       socket.SOCK_DGRAM)
client.connect((sys.argv[1], int(sys.argv[2])))
client.setblocking(False)
sent, answered, end_s = [], set(), None
print("ready", flush=True)
while end_s is None or time.time() < end_s:
    if end_s is None:
        try: client.send(b"%d" % len(sent))
        except OSError: pass  # there is no way now, or nobody has the port
        sent.append(time.time())
    next_s = time.time() + 0.02
    while (left_s := next_s - time.time()) > 0:
        watched = [client] if end_s else [client, sys.stdin]
        ready, _, _ = select.select(watched, [], [], left_s)
        if client in ready:
            try: answered.add(int(client.recv(100)))
            except OSError: pass
        if sys.stdin in ready:
            end_s = time.time() + float(sys.argv[3])
print(json.dumps([[when_s, number in answered] for number, when_s in enumerate(sent)]))
"""

# Prints the datagrams that come, a line each: port.
UDP_PRINT: Final = (
    _ON_LEASH
    + """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True: print(server.recv(2000).decode(), flush=True)
"""
)

# Sends a datagram: address, port, text.
UDP_SEND: Final = """
import socket, sys
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                       socket.SOCK_DGRAM)
client.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
"""


def fetch(address: str, port: int, timeout_s: int) -> tuple[str, ...]:
    """The command that prints what the web server there answers, for hosts and containers."""
    place = f"[{address}]" if ":" in address else address
    return ("curl", "-sS", "--max-time", str(timeout_s), f"http://{place}:{port}/")
