"""Programs that run on hosts while services are measured.

Each takes orders line by line, says `ready` when it is, and tells when things happened, in
monotonic seconds, which all processes of a machine share. They end when their input does.
"""

from typing import Final

# Asks the host's registry for names: `STATE SECONDS NAME...`, STATE being `present` or `absent`.
# All names are asked for, then there is a pause of so long. Says `asking STATE NAME` after the
# first time, and `NAME STATE TIME` when an answer says so. Another order takes the place of one
# that is not done; `end` is the last.
ASK: Final = """
import select, socket, sys, time
import dns.message
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.settimeout(0.2)
server.connect(("127.0.0.54", 53))
asked = 0
def has(query):
    global asked
    asked += 1
    query = asked.to_bytes(4, "big")[2:] + query[2:]
    try:
        server.send(query)
        while True:
            answer = server.recv(4096)
            if answer[:2] == query[:2]:
                return answer[7] > 0
    except OSError:
        return None
print("ready", flush=True)
while (line := sys.stdin.readline()) not in ("", "end\\n"):
    state, pause_s, *names = line.split()
    left = {
        name: dns.message.make_query(name + ".service.netd.internal", "A").to_wire()
        for name in names
    }
    first = names[0]
    while left and not select.select([sys.stdin], [], [], 0 if first else float(pause_s))[0]:
        for name, query in list(left.items()):
            if has(query) == (state == "present"):
                print(name, state, time.monotonic(), flush=True)
                del left[name]
        if first:
            print("asking", state, first, time.monotonic(), flush=True)
            first = ""
"""

# Starts processes and kills them: `start COMMAND...`, a command that says a line when it is
# there, is answered with its process id; `kill PID` with when that was.
PROCESSES: Final = """
import subprocess, sys, time
running = {}
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "start":
        command = [*rest, "sh", "-c", "echo; exec sleep infinity"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()
        running[process.pid] = process
        print(process.pid, flush=True)
    else:
        process = running.pop(int(rest[0]))
        killed_s = time.monotonic()
        process.kill()
        print(killed_s, flush=True)
        process.wait()
for process in running.values():
    process.kill()
"""

# Tells when the kernel has removed a link of the host (RTM_DELLINK in linux/rtnetlink.h).
LINKS: Final = """
import select, socket, struct, sys, time
group, removed = 1, 17
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
kernel.bind((0, group))
print("ready", flush=True)
while True:
    ready, _, _ = select.select([kernel, sys.stdin], [], [])
    if sys.stdin in ready and not sys.stdin.readline():
        break
    if kernel not in ready:
        continue
    data, now_s = kernel.recv(65536), time.monotonic()
    while len(data) >= 17:
        length, kind = struct.unpack_from("=IH", data)
        if kind == removed and data[16] == socket.AF_UNSPEC:  # not of a bridge's port
            print(now_s, flush=True)
        data = data[(length + 3) & ~3:]
"""

# A web server: first port, how many. The next line that it is told has it listen no more; then
# it says when that was.
WEB: Final = """
import asyncio, sys, time
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\nwell"
class Web(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(ANSWER)
        self.transport.close()
async def main():
    loop = asyncio.get_running_loop()
    first, count = int(sys.argv[1]), int(sys.argv[2])
    servers = [
        await loop.create_server(Web, "127.0.0.1", port, backlog=1024)
        for port in range(first, first + count)
    ]
    print("ready", flush=True)
    told = asyncio.Event()
    loop.add_reader(sys.stdin, told.set)
    await told.wait()
    closed_s = time.monotonic()
    for server in servers:
        server.close()
    print(closed_s, flush=True)
asyncio.run(main())
"""

# Starts etcd with that folder and has it keep values, which it does on its disk before it
# answers: how many, one at a time and 8 at a time. Prints how many a second.
ETCD: Final = """
import base64, http.client, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
folder, count = sys.argv[1], int(sys.argv[2])
client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
etcd = subprocess.Popen([
    "etcd", "--name", "one", "--data-dir", folder, "--initial-cluster", "one=" + peer,
    "--listen-client-urls", client, "--advertise-client-urls", client,
    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
    "--logger", "zap", "--log-level", "error",
], stderr=subprocess.DEVNULL)
VALUE = base64.b64encode(b"x" * 300).decode()
def put(keys):
    connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=10)
    for key in keys:
        name = base64.b64encode(b"services/%d" % key).decode()
        body = '{"key": "%s", "value": "%s"}' % (name, VALUE)
        connection.request("POST", "/v3/kv/put", body)
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200, answer.status
def rate(at_once):
    began_s = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(put, [range(at, count, at_once) for at in range(at_once)]))
    return count / (time.monotonic() - began_s)
try:
    end_s = time.monotonic() + 30
    while True:
        try:
            put([0])
            break
        except (OSError, AssertionError):
            if time.monotonic() > end_s: raise
            time.sleep(0.1)
    print(rate(1), rate(8), flush=True)
finally:
    etcd.kill()
    etcd.wait()
"""
