"""`jobs.align` with `slow://` storage, which importing it registers: the job that a campaign hits with faults."""

import sys

import jobs.chaos.slow_storage  # noqa: F401
from jobs.align.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
