"""The numbers that DNS gives things: types, classes and response codes."""

from typing import Final

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33  # RFC 2782
DNAME: Final = 39  # RFC 6672
OPT: Final = 41  # RFC 6891
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

CLASS_IN: Final = 1
CLASS_ANY: Final = 255

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16  # RFC 6891; 4 bits of it are in the header, 8 in OPT

TYPE_CODES: Final = {
    "A": A,
    "NS": NS,
    "CNAME": CNAME,
    "SOA": SOA,
    "PTR": PTR,
    "MX": MX,
    "TXT": TXT,
    "AAAA": AAAA,
    "SRV": SRV,
    "ANY": ANY,
}
TYPE_NAMES: Final = {code: name for name, code in TYPE_CODES.items()}
RCODES: Final = {
    "NOERROR": NOERROR,
    "FORMERR": FORMERR,
    "SERVFAIL": SERVFAIL,
    "NXDOMAIN": NXDOMAIN,
    "NOTIMP": NOTIMP,
    "REFUSED": REFUSED,
    "BADVERS": BADVERS,
}
RCODE_NAMES: Final = {code: name for name, code in RCODES.items()}
