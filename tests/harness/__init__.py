"""What the end-to-end tests and the benches drive: real processes through public doors."""
