"""`netd-oci-hook`: containers of plain OCI runtimes (runc, crun, youki) on netd's networks.

What a container wants is in its annotations. The runtime starts the hook when the container's
namespaces are there (`createRuntime`) and when it is gone (`poststop`):
https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks
"""
