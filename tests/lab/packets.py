"""Programs, like those of `programs.py`, that make packets of tunnels."""

from typing import Final

# Sends a packet of a tunnel by an ordinary socket, if it is let: address, port, VNI, frame.
UDP_TUNNEL: Final = """
import socket, struct, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
packet = struct.pack("!II", 0x08000000, int(sys.argv[3]) << 8) + bytes.fromhex(sys.argv[4])
sender = socket.socket(family, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
try: sender.sendto(packet, (sys.argv[1], int(sys.argv[2])))
except PermissionError: pass  # what is dropped on its way out
"""

# Prints a frame in hexadecimal: source and target MAC, source and target IPv4 address, port, text.
FRAME: Final = """
import socket, struct, sys
source_mac, target_mac = (bytes.fromhex(mac.replace(":", "")) for mac in sys.argv[1:3])
source, target = map(socket.inet_aton, sys.argv[3:5])
text = sys.argv[6].encode()
udp = struct.pack("!HHHH", 5, int(sys.argv[5]), 8 + len(text), 0) + text
head = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(udp), 0, 64, 17, 0) + source + target
total = sum(struct.unpack("!10H", head))
total = (total & 0xffff) + (total >> 16)
checksum = struct.pack("!H", 0xffff ^ ((total & 0xffff) + (total >> 16)))
print((target_mac + source_mac + b"\\x08\\x00" + head[:10] + checksum + head[12:] + udp).hex())
"""

# Puts a packet of a tunnel on a link, past the firewall: link, source and target address, port,
# VNI, frame. The target has to be a neighbour, or all of them.
FORGE: Final = """
import json, socket, struct, subprocess, sys
link, source, target, port, vni, inner = sys.argv[1:]
shown = subprocess.run(["ip", "-json", "neigh", "show", target, "dev", link],
                       capture_output=True, check=True).stdout
found = json.loads(shown)  # nothing for broadcast and multicast addresses
target_mac = bytes.fromhex(found[0]["lladdr"].replace(":", "")) if found else b"\\xff" * 6
six = ":" in target
family = socket.AF_INET6 if six else socket.AF_INET
ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
def total(data):
    data += bytes(len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16: value = (value & 0xffff) + (value >> 16)
    return 0xffff ^ value
payload = struct.pack("!II", 0x08000000, int(vni) << 8) + bytes.fromhex(inner)
length = 8 + len(payload)
udp = struct.pack("!HHHH", 50000, int(port), length, 0) + payload
if six:
    checksum = total(ends + struct.pack("!II", length, 17) + udp)
    udp = udp[:6] + struct.pack("!H", checksum) + udp[8:]
    head = struct.pack("!IHBB", 6 << 28, length, 17, 64) + ends
else:
    head = struct.pack("!BBHIBBH", 0x45, 0, 20 + length, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack("!H", total(head)) + head[12:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((link, 0))
own_mac = wire.getsockname()[4]
wire.send(target_mac + own_mac + (b"\\x86\\xdd" if six else b"\\x08\\x00") + head + udp)
"""
