"""A module or a file to an Artifact: exported, its weights counted, content-addressed, with what parity needs."""
