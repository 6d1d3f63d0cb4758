"""The steps of a call, each a file. A step may build on what an earlier one found; none imports a later one."""
