"""Two engines, one SQL."""
