"""What is kept: every round of every run as it ends, and this machine's long-run reference times."""
