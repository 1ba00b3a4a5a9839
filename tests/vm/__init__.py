"""What only a real systemd shows, on virtual machines; run by scripts/vm-lab."""
