#!/usr/bin/env bash
# Makes a Debian 12 machine a host of the lab, from the checkout that this file is in: netd runs
# as a service, and what scenarios use is there. Vagrant runs it on its machines, scripts/vm-image
# in the file system that becomes a disk.
#
#   vagrant/provision.sh [system]     system: all but netd itself
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive

apt_install() { # PACKAGE...: those that are missing
    dpkg-query -s "$@" >/dev/null 2>&1 && return
    apt-get update -q >/dev/null
    apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

# For scenarios and for people who look around; what netd needs, its own installation brings.
apt_install conntrack tcpdump
scripts/install dependencies
if [ "${1:-}" = system ]; then
    exit
fi
scripts/install
systemctl enable -q netd.socket netd.service
if [ -d /run/systemd/system ]; then
    systemctl restart netd.socket netd.service
fi
