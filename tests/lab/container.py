"""A container on a host of a lab: a named network namespace, and programs in it."""

from typing import TYPE_CHECKING, Any

from tests.lab import programs
from tests.lab.process import Process

if TYPE_CHECKING:
    from tests.lab.host import LabHost


class Container:
    """`name` is its network namespace's on its host, its id for netd, and its name there."""

    def __init__(self, host: "LabHost", name: str) -> None:
        self.host = host
        self.name = name
        self._programs: list[Process] = []
        self._addresses: list[str] = []

    def __repr__(self) -> str:
        return f"{self.name} on {self.host}"

    # Networks

    def attach(self, network: str, *flags: str, code: int = 0) -> str:
        """Attach it; what netctl says."""
        self._addresses = []
        names = ("--container", self.name, "--netns", self.name)
        return self.host.netctl("endpoint", "attach", network, *names, *flags, code=code)

    def detach(self) -> None:
        """Take it off all networks."""
        self.host.netctl("endpoint", "detach", "--container", self.name)

    def endpoint(self) -> dict[str, Any]:
        """Its endpoint, as the API has it."""
        [found] = [
            endpoint
            for endpoint in self.host.api("/v1/endpoints")
            if endpoint["container_id"] == self.name
        ]
        return dict(found)

    def addresses(self) -> list[str]:
        """Its addresses on the network that it was attached to last."""
        if not self._addresses:
            self._addresses = [cidr.partition("/")[0] for cidr in self.endpoint()["addresses"]]
        return self._addresses

    def address(self, family: int = 4) -> str:
        """The one of a family, 4 or 6."""
        for address in self.addresses():
            if (":" in address) == (family == 6):
                return address
        raise AssertionError(f"{self} has no IPv{family} address")

    # Programs

    def wrap(self, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name, *command)

    def run(self, *command: str, code: int | None = 0, timeout_s: float = 60) -> str:
        """Run a program in it, like `LabHost.run`."""
        return self.host.run(*self.wrap(*command), code=code, timeout_s=timeout_s)

    def succeeds(self, *command: str) -> bool:
        return self.host.succeeds(*self.wrap(*command))

    def spawn(self, *command: str) -> Process:
        """Start a program in it, like `LabHost.spawn`. It ends with the container."""
        program = self.host.spawn(*self.wrap(*command))
        self._programs.append(program)
        return program

    def python(self, source: str, *arguments: str) -> Process:
        """Start a program of `programs.py` in it; return when it is ready."""
        program = self.spawn("python3", "-c", source, *arguments)
        program.await_line("ready")
        return program

    def pings(self, address: str, *flags: str, wait_s: int = 2) -> bool:
        """Whether one echo request is answered; flags are those of ping(8)."""
        return self.succeeds("ping", "-c", "1", "-W", str(wait_s), *flags, address)

    def serve(self, text: str, port: int = 80) -> Process:
        """A web server that answers each request with `text` and who asks; see `fetch`."""
        return self.python(programs.SERVE, str(port), text)

    def fetch(self, address: str, port: int = 80, *, timeout_s: int = 5) -> str:
        """What the web server there answers."""
        return self.run(*programs.fetch(address, port, timeout_s))

    # The end

    def end(self) -> None:
        """Detach it and remove it; its programs end."""
        self.forget()
        if self.host.api(f"/v1/endpoints?container_id={self.name}"):
            self.detach()
        self.host.run("ip", "netns", "del", self.name)
        self.host.containers.pop(self.name, None)

    def forget(self) -> None:
        """Its host is gone, or it is itself: so are its programs."""
        for program in self._programs:
            program.stop()
        self._programs.clear()
