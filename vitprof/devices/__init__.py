"""Reach a device: profiles (what it is), transports (how bytes get there), the runner as a file that travels."""
