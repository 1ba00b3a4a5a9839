"""A DNS client that waits in a namespace to ask at once: one question a line, one answer a line.

`SERVER NAME TYPE [tcp]` is answered by `RCODE data data...`, or by `nothing: why`. There is one
attempt of as many seconds as the argument says, so that a lost query is seen.
"""

import sys

import dns.exception
import dns.message
import dns.query
import dns.rcode


def ask(patience_s: float, server: str, name: str, kind: str, over: str = "udp") -> str:
    query = dns.message.make_query(name, kind)
    send = dns.query.tcp if over == "tcp" else dns.query.udp
    try:
        answer = send(query, server, patience_s)
    except (OSError, dns.exception.DNSException) as error:
        return f"nothing: {type(error).__name__} {error}"
    data = sorted(str(item) for rrset in answer.answer for item in rrset)
    return " ".join([dns.rcode.to_text(answer.rcode()), *data])


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(ask(float(sys.argv[1]), *line.split()), flush=True)
