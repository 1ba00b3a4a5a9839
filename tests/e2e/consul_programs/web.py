"""A web server that registers itself, with a check of what it serves: NAME PORT [ADDRESS].

It says `registered`, serves until its input ends, and then takes itself out.
"""

import sys
import threading
from http.server import SimpleHTTPRequestHandler
from socketserver import ThreadingTCPServer

import consul


class Server(ThreadingTCPServer):  # http.server's own would look up the name of its address first
    allow_reuse_address = True


name, port = sys.argv[1], int(sys.argv[2])
address = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
ident = f"{name}-{port}"
server = Server((address, port), SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = consul.Consul()
client.agent.service.register(
    name,
    service_id=ident,
    address=sys.argv[3] if len(sys.argv) > 3 else None,
    port=port,
    tags=["http", "v1"],
    check=consul.Check.http(f"http://{address}:{port}/", "1s", timeout="1s"),
)
print("registered", flush=True)
sys.stdin.read()
client.agent.service.deregister(ident)
