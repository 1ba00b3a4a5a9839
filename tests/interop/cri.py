"""A node whose pods are made as kubelet makes them: by the Container Runtime Interface of a real
containerd, with netd's configuration list as the only one.

The numbers are those of the fields in
https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto
"""

import json
from dataclasses import dataclass, field

from tests.e2e.lab import await_true
from tests.interop import grpc
from tests.interop.containerd import IMAGE, ContainerdHost
from tests.interop.docker_engine import READY_S
from tests.interop.grpc import Fields, Message, entries

_SETTINGS = f"""
version = 2
root = "/run/ctd/root"
state = "/run/ctd/state"
[grpc]
  address = "/run/ctd/ctd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  # Control groups have no namespace that would take them along when a test ends.
  disable_cgroup = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""
_NODE = 2  # NamespaceMode
_PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass
class PodSpec:
    """What kubelet knows of a pod. `ports` are (protocol, host port, container port)."""

    name: str
    namespace: str = "default"
    ports: list[tuple[str, int, int]] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    servers: list[str] = field(default_factory=list)
    host_network: bool = False
    attempt: int = 0

    @property
    def uid(self) -> str:
        return f"uid-of-{self.name}"

    def message(self) -> Message:
        """A PodSandboxConfig."""
        modes: Message = {1: _NODE} if self.host_network else {}
        return {
            1: {1: self.name, 2: self.uid, 3: self.namespace, 4: self.attempt},
            2: "" if self.host_network else self.name,  # the hostname
            3: f"/run/pods/{self.uid}",
            4: [{1: self.servers, 2: ["svc.cluster.local"]}] if self.servers else [],
            5: [
                {1: _PROTOCOLS.index(protocol), 2: inside, 3: outside}
                for protocol, outside, inside in self.ports
            ],
            6: entries({"app": self.name}),
            7: entries(self.annotations),
            8: {2: {1: modes}},
        }


@dataclass
class Pod:
    """A sandbox with one container in it. `ips` are its addresses, as kubelet tells them."""

    spec: PodSpec
    sandbox: str
    container: str
    ips: list[str]


class CriHost(ContainerdHost):
    """`cri` calls the runtime service; `run_pod` is what kubelet does for a new pod."""

    SETTINGS = _SETTINGS
    IMAGES = "k8s.io"

    def cri(self, method: str, message: Message) -> Fields:
        path = f"/proc/{self.pid}/root/run/ctd/ctd.sock"
        return grpc.call(path, f"runtime.v1.RuntimeService/{method}", message)

    def start_runtime(self) -> None:
        super().start_runtime()
        await_true(self._serves, READY_S)

    def _serves(self) -> bool:
        """Whether the service is initialised, which it is a moment after containerd answers."""
        try:
            self.cri("Status", {})
        except grpc.Refused:
            return False
        return True

    def network_ready(self) -> tuple[bool, str]:
        """The runtime's condition NetworkReady, which kubelet makes the node's readiness of."""
        (status,) = self.cri("Status", {})[1]
        for condition in map(grpc.decoded, grpc.decoded(status)[1]):
            if condition[1] == [b"NetworkReady"]:
                (message,) = condition.get(4, [b""])
                return bool(condition.get(2)), message.decode()
        raise AssertionError("there is no such condition")

    def loaded_networks(self) -> list[str]:
        """The names of the configurations that the runtime uses, its own loopback's among them."""
        info = grpc.texts(self.cri("Status", {1: 1})[2])
        networks = json.loads(info["cniconfig"])["Networks"]
        return [network["Config"]["Name"] for network in networks]

    def run_sandbox(self, spec: PodSpec) -> str:
        (sandbox,) = self.cri("RunPodSandbox", {1: spec.message()})[1]
        return str(sandbox.decode())

    def run_pod(self, spec: PodSpec, *command: str) -> Pod:
        """A pod whose only container runs the command, or waits."""
        sandbox = self.run_sandbox(spec)
        made: Message = {
            1: sandbox,
            2: {
                1: {1: "main", 2: spec.attempt},
                2: {1: IMAGE},
                3: list(command or ("sleep", "600")),
                15: {2: {1: {1: ["NET_RAW"]}, 3: spec.message()[8][2][1]}},
            },
            3: spec.message(),
        }
        (container,) = self.cri("CreateContainer", made)[1]
        self.cri("StartContainer", {1: container.decode()})
        return Pod(spec, sandbox, container.decode(), self.ips(sandbox))

    def ips(self, sandbox: str) -> list[str]:
        """The pod's addresses, the first one first."""
        (status,) = self.cri("PodSandboxStatus", {1: sandbox})[1]
        (network,) = grpc.decoded(status).get(5, [b""])
        told = grpc.decoded(network)
        more = [ip for each in told.get(2, []) for ip in grpc.decoded(each)[1]]
        return [ip.decode() for ip in (*told.get(1, []), *more)]

    def exec(self, pod: Pod, *command: str) -> str:
        """What the command says in the pod's container."""
        said = self.cri("ExecSync", {1: pod.container, 2: list(command), 3: 20})
        text = b"".join((*said.get(1, []), *said.get(2, []))).decode()
        assert not said.get(3), f"{' '.join(command)}: {said[3]} {text}"
        return text

    def stop_pod(self, sandbox: str) -> None:
        self.cri("StopPodSandbox", {1: sandbox})

    def end_pod(self, sandbox: str) -> None:
        """Stop and remove it with its containers."""
        self.stop_pod(sandbox)
        self.cri("RemovePodSandbox", {1: sandbox})

    def pids(self, pod: Pod) -> list[int]:
        """The processes of its sandbox and of its container, as the host counts them."""
        tasks = [line.split() for line in self.ctr("-n", self.IMAGES, "task", "ls").splitlines()]
        return [int(task[1]) for task in tasks if task[0] in (pod.sandbox, pod.container)]

    def reboot(self, pods: list[Pod]) -> None:
        """What is left after one: disks, and neither processes nor what was in the kernel."""
        pids = [pid for pod in pods for pid in self.pids(pod)]
        self.kill()
        self.kill_runtime()
        self.run("kill", "-9", *map(str, pids))
        self.run("sh", "-c", "umount /run/netns/*; rm -r /run/netns")
        self.run("ip", "link", "delete", "nd-pods")
        self.run("nft", "delete", "table", "inet", "netd")
        boot = self.folder / "boot_id"
        boot.write_text("00000000-0000-4000-8000-000000000002\n")
        self.run("mount", "--bind", str(boot), "/proc/sys/kernel/random/boot_id")

    def sandboxes(self) -> dict[str, bool]:
        """All there are, and whether each is ready."""
        found = map(grpc.decoded, self.cri("ListPodSandbox", {}).get(1, []))
        return {each[1][0].decode(): not each.get(3) for each in found}
