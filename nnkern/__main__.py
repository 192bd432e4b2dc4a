"""`python -m nnkern`: the command line."""

import sys

from nnkern.cli import main

if __name__ == "__main__":
    sys.exit(main())
