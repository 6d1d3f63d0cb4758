"""The door to upstream APIs: the key goes in here, and nowhere else."""
