"""Stands where BROWSER points: signs in as the name in PERCALL_TEST_LOGIN on whatever pages it is sent to."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.openid import Browser

Path(os.environ["PERCALL_TEST_SAW"]).write_text(Browser(os.environ["PERCALL_TEST_LOGIN"]).visit(sys.argv[1]))
