"""A program as people write it with py-eureka-client: it registers itself, finds and calls others.

Arguments: the servers, separated by commas, the application or `-` to register none, the address
and the port. It reads one word a line and answers each with a line:

- `find APP`: the instances it knows, as `STATUS ADDRESS:PORT`, separated by blanks
- `call APP PATH`: what one of them answers
- `out` and `in`: it is not to be used, and is again; `done`

At the end of its input it says good-bye to the server.
"""

import logging
import sys

from py_eureka_client import eureka_client

LEASE_S = 4


def find(client: eureka_client.EurekaClient, app: str) -> str:
    known = client.applications.get_application(app.upper())
    instances = [] if known is None else known.instances
    return " ".join(sorted(f"{one.status} {one.ipAddr}:{one.port.port}" for one in instances))


def do(client: eureka_client.EurekaClient, word: str, *more: str) -> str:
    loop = eureka_client.get_event_loop()
    match word:
        case "find":
            return find(client, *more)
        case "call":
            return str(eureka_client.do_service(*more)).strip()
        case "out":
            loop.run_until_complete(client.status_update("OUT_OF_SERVICE"))
        case "in":
            loop.run_until_complete(client.delete_status_override())
    return "done"


if __name__ == "__main__":
    logging.disable()  # it says much of each server that is gone
    servers, app, address, port = sys.argv[1:]
    program = eureka_client.init(
        eureka_server=servers,
        app_name="" if app == "-" else app,
        should_register=app != "-",
        instance_ip=address,
        instance_host=address,
        instance_port=int(port),
        renewal_interval_in_secs=1,
        duration_in_secs=LEASE_S,
    )
    print("ready", flush=True)
    for line in sys.stdin:
        print(do(program, *line.split()), flush=True)
    eureka_client.stop()
