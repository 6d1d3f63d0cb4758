"""`percall` with the Windows half of `percall.system`, on POSIX: all of it but the job object is plain Python."""

import sys

from percall import system
from percall.system import windows

for name in system.__all__:
    setattr(system, name, getattr(windows, name))

from percall.__main__ import main  # noqa: E402 - once the other half is in place

sys.exit(main())
