"""`python -m tenth.cli`."""

import sys

from tenth.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
